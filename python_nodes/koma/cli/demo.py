"""`koma demo`: a server of its own, a clip, the story pipeline; ends with three files in out/story."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from koma.cli.exits import Exit
from koma.cli.options import Common, input_file
from koma.cli.run import run
from koma.cli.server_process import ServerError, ServerProcess, home
from koma.cli.story import tell_story

CLIP = Path("priv/demo/input.mp4")
READY = 180.0  # seconds for the model nodes to load


def demo(
    clip: Annotated[Path | None, typer.Option(help="A video of your own instead of the demo's.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("out/story"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running at the end.")] = False,
) -> None:
    """Start a server, describe a clip, paint an image from the words, set it in motion, stop the server."""
    console = Console(stderr=True, highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.TERMINATED))
    try:
        source = input_file(clip or home() / CLIP)
        with running_server(console, out.parent / "server.log", keep) as server:
            console.print(f"in: {os.path.relpath(source)}")
            common = Common(server.url, previews=out / "previews", force=True)
            run(tell_story(common, source, out, {}), common)
            console.print(
                f"server: {server.url}" + ("" if keep else " (stops now; --keep leaves it running)")
            )
    except ServerError as error:
        print(f"koma: {error}", file=sys.stderr)
        raise typer.Exit(Exit.UNREACHABLE) from error
    except KeyboardInterrupt:
        raise typer.Exit(Exit.CANCELLED) from None


@contextmanager
def running_server(console: Console, log: Path, keep: bool) -> Iterator[ServerProcess]:
    """Yield a ready server on a free port; stop it at the end unless it shall be kept and all went well."""
    folder = Path(tempfile.mkdtemp(prefix="koma-demo-"))
    server = ServerProcess(folder, {}, log.absolute(), outlive=keep)
    kept = False
    try:
        start(console, server)
        yield server
        kept = keep
    finally:
        if kept:
            console.print(f"stop it with: kill {server.pid}; its data: {folder}; its log: {server.log}")
        else:
            server.stop_if_started()
            shutil.rmtree(folder, ignore_errors=True)


def start(console: Console, server: ServerProcess) -> None:
    """Start the server and wait for its model nodes, with a note of those that are still missing."""
    with console.status("starting the server") as status:

        def tell(body: Any) -> None:
            text = waiting_for(body)
            status.update(text)
            if not console.is_terminal:
                console.print(text)

        server.start()
        server.wait_ready(seconds=READY, tell=tell)


def waiting_for(body: Any) -> str:
    """Return in words what ``/health/ready`` says is missing."""
    missing = body.get("missing") if isinstance(body, dict) else None
    if not missing:
        return "every model node is ready"
    return "waiting for " + ", ".join(f"{node['node']} ({node['state']})" for node in missing)
