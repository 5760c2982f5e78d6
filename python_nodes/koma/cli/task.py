"""`koma run TASK`: any task of any family that the server has."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Annotated, Any

import typer

from koma.cli.display import make_display
from koma.cli.options import (
    SERVER,
    ApiKey,
    Common,
    Deadline,
    Force,
    Json,
    ModelName,
    Previews,
    Server,
    free_to_write,
    input_file,
    parse_assignments,
)
from koma.cli.results import save, tell_files, text_of
from koma.cli.run import follow, run, show_notices, started
from koma.client import Client, Output


def run_task(
    task: Annotated[str, typer.Argument(help="The task, e.g. image.generate.")],
    params: Annotated[list[str] | None, typer.Argument(help="Parameters as NAME=VALUE.")] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="An input as NAME=FILE; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file of the first result.")] = None,
    previews: Previews = None,
    model: ModelName = None,
    deadline: Deadline = None,
    force: Force = False,
    server: Server = SERVER,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Run any task: texts go to stdout, files are named after the results unless --out says otherwise."""
    values = parse_assignments(params or [], "NAME=VALUE")
    files = {name: input_file(Path(str(path))) for name, path in _files(inputs or []).items()}
    free_to_write([out] if out else [], force)
    common = Common(server, api_key, json, previews, force)
    run(_run(common, task, values, files, out, model, deadline), common)


def _files(given: list[str]) -> dict[str, str]:
    """Return ``NAME=FILE`` arguments as name → path; a file is never taken for JSON."""
    pairs = {}
    for item in given:
        name, sign, path = item.partition("=")
        if not (name and sign and path):
            raise typer.BadParameter(f"{item!r} is not NAME=FILE", param_hint="--input")
        pairs[name] = path
    return pairs


async def _run(
    common: Common,
    task: str,
    params: dict[str, Any],
    files: dict[str, Path],
    out: Path | None,
    model: str | None,
    deadline: float | None,
) -> None:
    async with common.client() as client:
        with make_display(common.json) as display:
            await show_notices(client, display, {task})
            inputs = {name: (await client.upload(file)).id for name, file in files.items()}
            job = await started(client.submit(task, params, inputs or None, model=model, deadline=deadline))
            await follow(job, task, display, common.previews)
        end = await job.result()
        saved = [(output, _target(output, number, out)) for number, output in enumerate(end.outputs)]
        for output, path in saved:
            await _keep(client, output, path, common)
        tell_files(common, saved, {"id": job.id, "seed": end.seed, "timings": end.timings})


def _target(output: Output, number: int, out: Path | None) -> Path | None:
    """Return where a result goes: the first to ``out``, a text without one nowhere, a file by its name."""
    if out is not None and number == 0:
        return out
    if output.text is not None:
        return None
    return Path(f"{output.name}{mimetypes.guess_extension(output.media_type) or '.bin'}")


async def _keep(client: Client, output: Output, path: Path | None, common: Common) -> None:
    if path is not None:
        await save(client, output, path, overwrite=common.force)
    elif not common.json:
        print(await text_of(client, output))
