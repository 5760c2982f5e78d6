"""`koma check-data`: look a data folder over while no server runs on it."""

from __future__ import annotations

import json as json_format
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from koma.cli.display import emit
from koma.cli.exits import Exit
from koma.cli.options import Json
from koma.cli.server_process import ServerError, evaluation, home


def check_data(
    folder: Annotated[Path, typer.Argument(help="Data folder of a server (KOMA_DATA).", file_okay=False)],
    repair: Annotated[
        bool, typer.Option("--repair", help="Leave out what is damaged; it is kept aside.")
    ] = False,
    json: Json = False,
) -> None:
    """Check the journal, the pipelines and the bytes of every artifact, and repair what can be repaired.

    Ends with 0 when all is sound, or was repaired, with 1 when something is damaged, and with 3 when the
    folder belongs to a server that runs, or cannot be read.
    """
    report = _report(folder, repair)
    if "error" in report:
        print(f"koma: {report['error']}", file=sys.stderr)
        raise typer.Exit(Exit.UNREACHABLE)
    if json:
        emit(report)
    else:
        print("\n".join(lines(report)))
    raise typer.Exit(Exit.OK if report["sound"] or report["repaired"] else Exit.FAILED)


def _report(folder: Path, repair: bool) -> dict[str, Any]:
    """Run the check in a BEAM that starts no server; its last line is the report."""
    settings = {"KOMA_DATA": str(folder.absolute()), "KOMA_REPAIR": "on" if repair else "off"}
    try:
        where = home()
        command = evaluation(where, "Koma.Store.Check.main()")
    except ServerError as error:
        return {"error": str(error)}
    done = subprocess.run(
        command, cwd=where, env={**os.environ, **settings}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    try:
        report: dict[str, Any] = json_format.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {
            "error": f"the check ended with status {done.returncode}: {(done.stderr or done.stdout).strip()}"
        }
    return report


def lines(report: dict[str, Any]) -> list[str]:
    """Return the report as people read it: the jobs, then a line for each thing that is damaged."""
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(report["jobs"].items()))
    told = [f"jobs: {jobs or 'none'}"]
    told += [
        f"journal: {place['bytes']} damaged bytes at {place['offset']}" for place in report["damaged_places"]
    ]
    if report["torn_bytes"]:
        told.append(f"journal: {report['torn_bytes']} bytes of a torn record at the end")
    if report["newer_entries"]:
        told.append(f"journal: {report['newer_entries']} entries of a newer version, which are kept")
    told += [f"{job}: lost with its acceptance" for job in report["lost_jobs"]]
    told += [f"{job}: events are lost, others stand in for them" for job in report["mended_jobs"]]
    told += [f"{pipeline['id']}: {pipeline['problem']}" for pipeline in report["damaged_pipelines"]]
    told += [f"artifact {id}: its bytes are not those of its name" for id in report["damaged_artifacts"]]
    if report["sound"]:
        return [*told, "all is sound"]
    end = "repaired; what was damaged is kept beside it as *.damaged-*"
    return [*told, end if report["repaired"] else "damaged; run this again with --repair to leave it out"]
