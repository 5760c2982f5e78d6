"""`koma image PROMPT`: paint an image from words."""

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
    parse_size,
)
from koma.cli.results import numbered
from koma.cli.run import run


def image(
    prompt: Annotated[str, typer.Argument(help="What to paint.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG file.")] = Path("image.png"),
    n: Annotated[
        int, typer.Option("-n", "--count", min=1, help="How many; the others are called NAME_2, …")
    ] = 1,
    steps: Steps = None,
    guidance: Guidance = None,
    temperature: Annotated[float | None, typer.Option(help="How freely tokens are drawn.")] = None,
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
    """Paint an image; the file's path goes to stdout."""
    params = given(
        prompt=prompt,
        negative_prompt=negative,
        steps=steps,
        guidance_scale=guidance,
        temperature=temperature,
        seed=seed,
        n=n if n > 1 else None,
    )
    params.update(parse_size(size))
    files = numbered(out, n)
    free_to_write(files, force)
    common = Common(server, api_key, json, previews, force)
    run(generate(common, "image.generate", "image", params, None, files, model, deadline), common)
