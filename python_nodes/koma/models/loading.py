"""What every family does first: find the checkpoint, choose the device, read the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koma.models import checkpoints, manifest
from koma.models.device import Placement, place
from koma.models.family import Family
from koma.models.manifest import Manifest
from koma.runtime.runner import Loaded


@dataclass(frozen=True)
class Opened:
    """A checkpoint that was found and is about to be loaded."""

    folder: Path
    placement: Placement
    manifest: Manifest
    loaded: Loaded


def open_checkpoint(
    family: Family, checkpoint: str, device: str, dtype: str, options: Mapping[str, Any]
) -> Opened:
    """Find ``checkpoint`` for ``family`` and decide where it goes.

    Args:
        family: whose checkpoint it is.
        checkpoint: a name, a folder or a hub id; see :func:`koma.models.checkpoints.resolve`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: "auto" or a key of :data:`koma.models.device.DTYPES`.
        options: overrides of the checkpoint's ``koma.json``.

    Raises:
        KomaError: ``load_failed`` with the reason.
    """
    placement = place(device, dtype)
    folder = checkpoints.resolve(checkpoint, family)
    settings = manifest.read(folder, options)
    loaded = Loaded(
        family=family.name,
        checkpoint=checkpoint,
        checkpoint_digest=checkpoints.digest(folder),
        device=str(placement.device),
        dtype=placement.dtype_name,
        notice=settings.notice,
    )
    return Opened(folder, placement, settings, loaded)
