"""What `koma image` and `koma video` share: one job, its previews, and files at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koma.cli.display import make_display
from koma.cli.options import Common
from koma.cli.results import save, tell_files
from koma.cli.run import follow, show_notices, started


async def generate(
    common: Common,
    task: str,
    stage: str,
    params: dict[str, Any],
    image: Path | None,
    files: list[Path],
    model: str | None,
    deadline: float | None,
) -> None:
    """Run one job and write its outputs to ``files``, in order; ``image`` is uploaded as an input."""
    async with common.client() as client:
        with make_display(common.json) as display:
            await show_notices(client, display, {task})
            inputs = {"image": (await client.upload(image)).id} if image is not None else None
            job = await started(client.submit(task, params, inputs, model=model, deadline=deadline))
            await follow(job, stage, display, common.previews)
        end = await job.result()
        saved = list(zip(end.outputs, files, strict=False))
        for output, path in saved:
            await save(client, output, path, overwrite=common.force)
        tell_files(common, saved, {"id": job.id, "seed": end.seed, "timings": end.timings})
