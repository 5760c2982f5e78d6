"""`koma queue`: the queues of a server, for operators — list them, pause one, let it go on."""

from __future__ import annotations

from typing import Annotated

import typer

from koma.cli.listing import show
from koma.cli.options import SERVER, ApiKey, Common, Json, Server
from koma.cli.run import run

app = typer.Typer(help="The queues of a server, for operators.", invoke_without_command=True)
Family = Annotated[str, typer.Argument(help="Family of the queue, e.g. amused.", show_default=False)]


@app.callback()
def queue(
    context: typer.Context, server: Server = SERVER, api_key: ApiKey = None, json: Json = False
) -> None:
    """List the queues, or do something with one; --server and --api-key stand before the command."""
    common = Common(server, api_key, json)
    context.obj = common
    if context.invoked_subcommand is None:
        run(_list(common), common)


@app.command()
def pause(context: typer.Context, family: Family) -> None:
    """Let jobs wait; those that run go on. Holds across restarts of the server."""
    common: Common = context.obj
    run(_pause(common, family, True), common)


@app.command()
def resume(context: typer.Context, family: Family) -> None:
    """Let the jobs that wait have their turns."""
    common: Common = context.obj
    run(_pause(common, family, False), common)


async def _pause(common: Common, family: str, paused: bool) -> None:
    async with common.client() as client:
        await client.pause_queue(family, paused)
    await _list(common)


async def _list(common: Common) -> None:
    async with common.client() as client:
        queues = await client.queues()
    columns = {
        "family": lambda queue: queue.family,
        "state": lambda queue: "paused" if queue.paused else "open",
        "waiting": lambda queue: str(queue.jobs),
        "oldest": lambda queue: f"{queue.oldest_wait_ms / 1000:.0f} s",
        "by key": lambda queue: " ".join(f"{key.key or '-'}:{key.jobs}" for key in queue.keys),
    }
    show(queues, columns, common.json)
