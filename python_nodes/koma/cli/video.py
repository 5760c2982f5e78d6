"""`koma video PROMPT`: make a video from words, and from a first image if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from koma.cli.generate import generate
from koma.cli.options import (
    SERVER,
    ApiKey,
    Common,
    Deadline,
    Force,
    Guidance,
    Json,
    ModelName,
    Negative,
    Previews,
    Seed,
    Server,
    Size,
    Steps,
    free_to_write,
    given,
    input_file,
    parse_size,
)
from koma.cli.run import run


def video(
    prompt: Annotated[str, typer.Argument(help="What should happen.")],
    image: Annotated[Path | None, typer.Option("--image", "-i", help="The first frame.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The MP4 file.")] = Path("video.mp4"),
    frames: Annotated[int | None, typer.Option(help="How many frames.")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative: Negative = None,
    size: Size = None,
    seed: Seed = None,
    previews: Previews = None,
    model: ModelName = None,
    deadline: Deadline = None,
    force: Force = False,
    server: Server = SERVER,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Make a video; the file's path goes to stdout."""
    params = given(
        prompt=prompt,
        negative_prompt=negative,
        frames=frames,
        fps=fps,
        steps=steps,
        guidance_scale=guidance,
        seed=seed,
    )
    params.update(parse_size(size))
    free_to_write([out], force)
    first = input_file(image) if image is not None else None
    common = Common(server, api_key, json, previews, force)
    run(generate(common, "video.generate", "video", params, first, [out], model, deadline), common)
