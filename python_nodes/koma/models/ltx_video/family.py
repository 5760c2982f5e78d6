"""LTX-Video as a family of Koma: imports no torch until a checkpoint is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koma.models.family import Family
from koma.runtime.runner import Runner


def _load(checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]) -> Runner:
    from koma.models.ltx_video.runner import load

    return load(checkpoint, device, dtype, slots, options)


def _untrained(path: Path) -> dict[str, Any]:
    from koma.models.ltx_video.untrained import make

    return make(path)


FAMILY = Family(
    name="ltx_video",
    load=_load,
    default="emoji",
    folder="ltx-video",
    hub_files=("*.json", "scheduler/*", "text_encoder/*", "tokenizer/*", "transformer/*", "vae/*"),
    untrained=_untrained,
)
