"""`koma nodes`: the model nodes of a server, for operators — list them, drain, restart, load, unload."""

from __future__ import annotations

from typing import Annotated

import typer

from koma.cli.listing import show
from koma.cli.options import SERVER, ApiKey, Common, Json, Server
from koma.cli.run import run
from koma.client.records import ModelNode, NodeOrder

app = typer.Typer(help="The model nodes of a server, for operators.", invoke_without_command=True)
Name = Annotated[str, typer.Argument(help="Name of the model node, e.g. amused-1.", show_default=False)]
Checkpoint = Annotated[str, typer.Argument(help="A name, a folder or a hub id.", show_default=False)]


@app.callback()
def nodes(
    context: typer.Context, server: Server = SERVER, api_key: ApiKey = None, json: Json = False
) -> None:
    """List the model nodes, or do something with one; --server and --api-key stand before the command."""
    common = Common(server, api_key, json)
    context.obj = common
    if context.invoked_subcommand is None:
        run(_list(common), common)


@app.command()
def drain(context: typer.Context, name: Name) -> None:
    """Take no more jobs; those that run finish. Holds until `resume`."""
    _order(context, name, "drain")


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Take jobs again."""
    _order(context, name, "resume")


@app.command()
def restart(context: typer.Context, name: Name) -> None:
    """Drain for a minute at most, then start a new process; jobs that still ran are run again."""
    _order(context, name, "restart")


@app.command()
def load(context: typer.Context, name: Name, checkpoint: Checkpoint) -> None:
    """Drain, then serve another checkpoint."""
    _order(context, name, "load", checkpoint)


@app.command()
def unload(context: typer.Context, name: Name) -> None:
    """Drain, then let go of the checkpoint."""
    _order(context, name, "unload")


def _order(context: typer.Context, name: str, order: NodeOrder, checkpoint: str | None = None) -> None:
    common: Common = context.obj
    run(_obeyed(common, name, order, checkpoint), common)


async def _list(common: Common) -> None:
    async with common.client() as client:
        _show(await client.nodes(), common)


async def _obeyed(common: Common, name: str, order: NodeOrder, checkpoint: str | None) -> None:
    async with common.client() as client:
        _show([await client.order_node(name, order, checkpoint)], common)


def _show(nodes: list[ModelNode], common: Common) -> None:
    columns = {
        "node": lambda node: node.node,
        "state": _state,
        "family": lambda node: node.family,
        "checkpoint": lambda node: node.checkpoint or "-",
        "device": lambda node: node.device or "-",
        "slots": lambda node: f"{'-' if node.running is None else node.running}/{node.slots}",
        "last error": lambda node: node.last_error.code if node.last_error else "-",
    }
    show(nodes, columns, common.json)


def _state(node: ModelNode) -> str:
    about = node.order if node.order not in (None, "drain") else None
    return f"{node.state}, then {about}" if about and node.state == "draining" else node.state
