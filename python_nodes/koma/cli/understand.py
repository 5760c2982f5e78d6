"""`koma understand FILE`: what a video or an image shows, in words."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

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
    Seed,
    Server,
    free_to_write,
    given,
    input_file,
)
from koma.cli.results import save, tell_files, text_of
from koma.cli.run import follow, run, show_notices, started

TASK = "video.understand"


def understand(
    file: Annotated[Path, typer.Argument(help="MP4, WebM, MOV, GIF, PNG, JPEG or WebP.")],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="What to ask about it.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the text to this file too.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="The longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 always takes the likeliest word.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest words only.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Frames of the video to look at.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second to look at.")] = None,
    seed: Seed = None,
    model: ModelName = None,
    deadline: Deadline = None,
    force: Force = False,
    server: Server = SERVER,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Describe a video or an image, or answer a question about it; the text goes to stdout."""
    params = given(
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        max_frames=max_frames,
        fps=fps,
        seed=seed,
    )
    common = Common(server, api_key, json, force=force)
    free_to_write([out] if out else [], force)
    run(_understand(common, input_file(file), params, out, model, deadline), common)


async def _understand(
    common: Common,
    file: Path,
    params: dict[str, object],
    out: Path | None,
    model: str | None,
    deadline: float | None,
) -> None:
    async with common.client(previews=False) as client:
        with make_display(common.json) as display:
            await show_notices(client, display, {TASK})
            clip = await client.upload(file, progress=partial(display.transfer, "upload"))
            inputs = {input_name(clip.media_type): clip.id}
            job = await started(client.submit(TASK, params, inputs, model=model, deadline=deadline))
            await follow(job, "caption", display, None)
        end = await job.result()
        output = end.outputs[0]
        if out is not None:
            await save(client, output, out, overwrite=common.force)
        if common.json:
            tell_files(common, [(output, out)], {"id": job.id, "seed": end.seed, "timings": end.timings})
        else:
            print(await text_of(client, output))


def input_name(media_type: str) -> str:
    """Return which input of the task takes a file of this type, which the server told by its bytes."""
    return "image" if media_type.startswith("image/") and media_type != "image/gif" else "video"
