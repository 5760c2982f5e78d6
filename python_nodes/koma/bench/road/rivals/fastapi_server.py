"""Plain FastAPI on uvicorn: what everybody would write first. Nothing is queued or stored."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.post("/predict")  # type: ignore[untyped-decorator]
async def predict(request: dict[str, Any]) -> dict[str, Any]:
    """The no-op."""
    return {"steps": request["params"]["steps"]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
