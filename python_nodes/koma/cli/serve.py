"""`koma serve`: run the server in the foreground."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from koma.cli.exits import Exit
from koma.cli.options import given
from koma.cli.server_process import ServerError, home, spawn


def serve(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port, 0 for any free one.")] = None,
    bind: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of jobs and artifacts.", file_okay=False)] = None,
    models: Annotated[
        str | None, typer.Option(help='"all", or families with a count, e.g. "amused:2,ltx_video".')
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="File with the API keys (koma keys new).", dir_okay=False)
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="One checkpoint name for every family.")] = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM, which it gets passed on and answers by draining.

    Options left out keep the environment's KOMA_* variables and the defaults of config/runtime.exs.
    """
    environment = given(
        KOMA_PORT=str(port) if port is not None else None,
        KOMA_BIND=bind,
        KOMA_DATA=str(data.absolute()) if data is not None else None,
        KOMA_KEYS_FILE=str(keys.absolute()) if keys is not None else None,
        KOMA_MODELS=models,
        KOMA_CHECKPOINT=checkpoint,
    )
    try:
        server = spawn(home(), environment, None)
    except ServerError as error:
        print(f"koma: {error}", file=sys.stderr)
        raise typer.Exit(Exit.UNREACHABLE) from error
    raise typer.Exit(wait(server))


def wait(server: subprocess.Popen[bytes]) -> int:
    """Pass SIGINT and SIGTERM on as SIGTERM, and wait; return the exit code of the command.

    A server that was asked to stop and did so ends with 0. A third signal kills it and its model nodes.
    """
    asked = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        server.send_signal(signal.SIGTERM if asked < 3 else signal.SIGKILL)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = server.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0 if asked and status in (0, -signal.SIGTERM, 128 + signal.SIGTERM) else abs(status)
