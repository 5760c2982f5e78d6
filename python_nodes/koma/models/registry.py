"""Which module serves which family. A module is imported only when its family is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from koma.errors import KomaError
from koma.runtime.runner import Runner

FAMILIES: Mapping[str, str] = {
    "amused": "koma.models.amused.runner",
    "ltx_video": "koma.models.ltx_video.runner",
    "smolvlm2": "koma.models.smolvlm2.runner",
    "toy": "koma.models.toy.runner",
}
"""Family -> module with ``load(checkpoint, device, dtype, slots, options) -> Runner``."""


def load(
    family: str, checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]
) -> Runner:
    """Load a checkpoint of ``family``; raises KomaError ``load_failed`` where there is no such family."""
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise KomaError(
            "load_failed", f"no family named {family}; known: {known}", field="family", value=family
        )
    module = importlib.import_module(FAMILIES[family])
    return cast(Runner, module.load(checkpoint, device, dtype, slots, options))
