"""`koma evaluate`, also `python -m koma.training.evaluate`: measures the checkpoints into docs/quality.md."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

# part → module and function; imported only when asked for (transformers and diffusers take seconds)
PARTS: dict[str, tuple[str, str]] = {
    "judge": ("koma.training.evaluate.story", "measure_judge"),
    "understanding": ("koma.training.evaluate.understanding", "measure_understanding"),
    "images": ("koma.training.evaluate.images", "measure_images"),
    "videos": ("koma.training.evaluate.videos", "measure_videos"),
    "story": ("koma.training.evaluate.story", "measure_story"),
    "speed": ("koma.training.evaluate.speed", "measure_speed"),
}
NEEDS: dict[str, tuple[str, ...]] = {
    "judge": ("judge",),
    "understanding": ("smolvlm2",),
    "images": ("judge", "amused"),
    "videos": ("judge", "ltx-video"),
    "story": ("judge", "smolvlm2", "amused", "ltx-video"),
    "speed": (),
}
"""Checkpoints without which a part is left out; `speed` times those that are there."""

app = typer.Typer(add_completion=False)


@app.command(help="Measure the emoji checkpoints and write docs/quality.md with sheets of the worst samples.")
def evaluate(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"Any of {', '.join(PARTS)} [default: all].")
    ] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="Folder of the checkpoints.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of quality.md.")] = Path("docs"),
    samples: Annotated[int, typer.Option(min=8, help="Samples of each kind.")] = 500,
    batch: Annotated[int, typer.Option(min=1, help="Samples computed at once.")] = 25,
    size: Annotated[
        int | None,
        typer.Option(min=32, help="Side in pixels [default: that of the checkpoints]."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    from koma.training.evaluate.context import CHECKPOINTS, Context, native_size
    from koma.training.evaluate.report import write_report
    from koma.training.loop import choose_device

    chosen = parts or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    folder = checkpoints or CHECKPOINTS
    context = Context(folder, out, samples, batch, choose_device(device), size or native_size(folder))
    for part in chosen:
        if missing := [family for family in NEEDS[part] if not context.has(family)]:
            typer.echo(f"{part}: left out, {folder} has no {', '.join(missing)}")
            continue
        module, function = PARTS[part]
        start = time.monotonic()
        figures = getattr(import_module(module), function)(context)
        for figure in figures:
            line = f"{figure.value:6.1f} {figure.unit:2}  [{figure.low:.1f}, {figure.high:.1f}]  n={figure.n}"
            typer.echo(f"{figure.what:70} {line}")
        page = write_report(context, {part: figures}, list(PARTS))
        typer.echo(f"{part}: {time.monotonic() - start:.0f} s, {page}")


if __name__ == "__main__":
    app()
