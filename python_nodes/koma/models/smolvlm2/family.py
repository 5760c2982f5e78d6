"""SmolVLM2 as a family of Koma: imports no torch until a checkpoint is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koma.models.family import Family
from koma.runtime.runner import Runner


def _load(checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]) -> Runner:
    from koma.models.smolvlm2.runner import load

    return load(checkpoint, device, dtype, slots, options)


def _untrained(path: Path) -> dict[str, Any]:
    from koma.models.smolvlm2.untrained import make

    return make(path)


FAMILY = Family(
    name="smolvlm2",
    load=_load,
    default="emoji",
    folder="smolvlm2",
    hub_files=("*.json", "*.jinja", "*.txt", "*.safetensors"),
    untrained=_untrained,
)
