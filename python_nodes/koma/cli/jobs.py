"""`koma jobs`: the jobs of a server — list them, show one, watch it, cancel it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from koma.cli import listing
from koma.cli.display import emit, make_display
from koma.cli.options import SERVER, ApiKey, Common, Json, Server
from koma.cli.results import tell_files
from koma.cli.run import run, show_event
from koma.client import Job

app = typer.Typer(help="The jobs of a server.", invoke_without_command=True)
Id = Annotated[str, typer.Argument(help="Id of the job.", show_default=False)]


@app.callback()
def jobs(context: typer.Context, server: Server = SERVER, api_key: ApiKey = None, json: Json = False) -> None:
    """List the jobs, or do something with one; --server and --api-key stand before the command."""
    common = Common(server, api_key, json)
    context.obj = common
    if context.invoked_subcommand is None:
        run(_list(common), common)


@app.command("list")
def list_jobs(context: typer.Context, json: Json = False) -> None:
    """List the jobs that the server knows."""
    common = _common(context, json)
    run(_list(common), common)


@app.command()
def show(context: typer.Context, id: Id, json: Json = False) -> None:
    """Show a job."""
    common = _common(context, json)
    run(_show(common, id), common)


@app.command()
def watch(context: typer.Context, id: Id, json: Json = False) -> None:
    """Follow a job to its end, from its first event; Ctrl-C leaves and the job goes on."""
    common = _common(context, json)
    run(_watch(common, id), common)


@app.command()
def cancel(context: typer.Context, id: Id, json: Json = False) -> None:
    """Cancel a job; also right for one that has ended."""
    common = _common(context, json)
    run(_cancel(common, id), common)


async def _list(common: Common) -> None:
    async with common.client() as client:
        found = await client.jobs()
    columns = {
        "id": lambda job: job.id,
        "state": lambda job: job.state,
        "task": lambda job: job.task,
        "since": when,
    }
    listing.show(found, columns, common.json)


async def _show(common: Common, id: str) -> None:
    async with common.client() as client:
        job = await client.job(id)
    record = job.model_dump(by_alias=True, exclude_none=True)
    if common.json:
        emit(record)
        return
    for name, value in record.items():
        print(f"{name}: {value}")


async def _watch(common: Common, id: str) -> None:
    async with common.client() as client:
        handle = await client.attach(id)
        with make_display(common.json) as display:
            async for event in handle.events():
                show_event(event, handle.job.task, display, None)
        end = await handle.result()
        tell_files(common, [(output, None) for output in end.outputs], {"id": id, "seed": end.seed})


async def _cancel(common: Common, id: str) -> None:
    async with common.client() as client:
        await client.cancel(id)
    if common.json:
        emit({"event": "cancelled", "id": id})


def when(job: Job) -> str:
    """Return when the job was accepted, in local time."""
    return datetime.fromtimestamp((job.created_at or 0) / 1000).isoformat(" ", "seconds")


def _common(context: typer.Context, json: bool) -> Common:
    common: Common = context.obj
    return Common(common.server, common.api_key, common.json or json)
