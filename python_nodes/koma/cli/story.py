"""`koma story FILE`: a video in; a caption, an image and a video out, as one pipeline."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from koma.cli.display import make_display
from koma.cli.options import (
    SERVER,
    ApiKey,
    Common,
    Force,
    Json,
    Previews,
    Seed,
    Server,
    free_to_write,
    input_file,
    parse_settings,
)
from koma.cli.results import save, tell_files, text_of
from koma.cli.run import follow, run, show_notices, started
from koma.client import Client, Output

STAGES = ("caption", "image", "video")
TASKS = {"video.understand", "image.generate", "video.generate"}
# Output of the pipeline → file name.
FILES = {"caption.text": "caption.txt", "image.image": "image.png", "video.video": "video.mp4"}


def story(
    file: Annotated[Path, typer.Argument(help="MP4, WebM, MOV or GIF.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("out/story"),
    seed: Seed = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of a stage, e.g. image.steps=8; repeatable."),
    ] = None,
    previews: Previews = None,
    force: Force = False,
    server: Server = SERVER,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Describe a video, paint an image from the description, and set it in motion."""
    params = parse_settings(settings or [])
    if seed is not None:
        params = {stage: {"seed": seed, **params.get(stage, {})} for stage in {*STAGES, *params}}
    free_to_write([out / name for name in FILES.values()], force)
    common = Common(server, api_key, json, previews, force)
    run(tell_story(common, input_file(file), out, params), common)


async def tell_story(common: Common, file: Path, out: Path, params: dict[str, dict[str, Any]]) -> None:
    """Upload the file, run the pipeline with live display, write its outputs below ``out``."""
    async with common.client() as client:
        with make_display(common.json) as display:
            await show_notices(client, display, TASKS)
            clip = await client.upload(file, progress=partial(display.transfer, "upload"))
            pipeline = await started(client.submit_pipeline("story", {"video": clip.id}, params or None))
            await follow(pipeline, "story", display, common.previews)
        end = await pipeline.result()
        caption = end.outputs.get("caption.text")
        if caption is not None and not common.json:
            print(f"caption: {await text_of(client, caption)}", file=sys.stderr)
        names = [name for name in FILES if name in end.outputs]
        saved = [await _save(client, end.outputs[name], out / FILES[name], common.force) for name in names]
        tell_files(common, saved, {"id": pipeline.id})


async def _save(client: Client, output: Output, path: Path, force: bool) -> tuple[Output, Path]:
    await save(client, output, path, overwrite=force)
    return output, path
