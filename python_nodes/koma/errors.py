"""Error values. The codes are those of ``errors.json``, the one list that both languages load."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any


@cache
def codes() -> dict[str, dict[str, Any]]:
    """Return the shared list: code -> ``{"status": HTTP status, "meaning": str}``."""
    packaged = resources.files("koma") / "errors.json"
    if packaged.is_file():
        return dict(json.loads(packaged.read_text()))
    return dict(json.loads((Path(__file__).parents[2] / "errors.json").read_text()))


class KomaError(Exception):
    """An error that can be told to a user.

    ``code`` must be one of :func:`codes`; ``field``, ``value`` and ``bound`` say what was wrong.
    """

    def __init__(
        self, code: str, message: str, *, field: str | None = None, value: Any = None, bound: Any = None
    ) -> None:
        if code not in codes():
            raise ValueError(f"unknown error code {code!r}: add it to errors.json")
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.value = value
        self.bound = bound

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as they travel on every wire of Koma."""
        parts = {"field": self.field, "value": self.value, "bound": self.bound}
        told = {name: value for name, value in parts.items() if value is not None}
        return {"code": self.code, "message": self.message, **told}
