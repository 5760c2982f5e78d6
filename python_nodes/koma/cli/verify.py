"""`koma verify`: which marks a file bears, and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from koma.cli.display import emit
from koma.cli.options import SERVER, ApiKey, Common, Json, Server
from koma.cli.run import run
from koma.client.records import Verdict


def verify(
    files: Annotated[list[Path], typer.Argument(help="Pictures or videos.", exists=True, dir_okay=False)],
    server: Server = SERVER,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Ask the server whether a model made a file, as far as its marks tell.

    The verdict is `made_here`, `declares_ai`, `tampered` or `unknown`, which does not mean that no model
    made it.
    """
    common = Common(server, api_key, json)
    run(_verify(files, common), common)


async def _verify(files: list[Path], common: Common) -> None:
    async with common.client() as client:
        for path in files:
            verdict = await client.verify(path)
            if common.json:
                emit({"event": "verdict", "path": str(path), **verdict.model_dump()})
            else:
                print("\n".join(lines(path, verdict)))


def lines(path: Path, verdict: Verdict) -> list[str]:
    """Return the verdict as people read it: one line, then one for each layer."""
    return [
        f"{path}: {verdict.verdict}",
        f"  {verdict.meaning}",
        f"  signed statement: {_statement(verdict.c2pa)}",
        f"  invisible mark: {_mark(verdict.watermark)}",
        f"  log: {_log(verdict.log)}",
    ]


def _statement(told: dict[str, Any]) -> str:
    if not told["present"]:
        return told.get("note", "none")
    problems = "; ".join(problem["meaning"] for problem in told["failures"])
    by = f"signed by {told['issuer']}"
    return f"{told['state']}, {by}{', ' + problems if problems else ''}"


def _mark(told: dict[str, Any]) -> str:
    if "note" in told:
        return str(told["note"])
    found = f"found, id {told['id'] or 'not readable'}" if told["found"] else "not found"
    return f"{found}, score {told['score']} of {told['threshold']} needed"


def _log(told: dict[str, Any]) -> str:
    if told["exact"]:
        return "these very bytes were made here"
    return "pixels with this mark were made here" if told["by_mark"] else "nothing that is still kept"
