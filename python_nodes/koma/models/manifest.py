"""``koma.json`` of a checkpoint: what its maker knows best and the configurations of the classes do not
say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koma.errors import KomaError

FILE = "koma.json"
PIPELINE_FILE = "defaults.json"
"""Written by the training runs: arguments that the stock pipeline should be called with."""

_PIPELINE_NAMES = {
    "guidance_scale": "guidance_scale",
    "height": "height",
    "width": "width",
    "num_inference_steps": "steps",
    "num_frames": "frames",
    "frame_rate": "fps",
    "temperature": "temperature",
}
"""Argument of a stock pipeline -> parameter of a task. Other arguments have no counterpart."""


class Manifest(BaseModel):
    """Defaults and bounds of a checkpoint. The ``options`` of a model node have the same keys and win over
    the file."""

    model_config = ConfigDict(extra="forbid")

    notice: str | None = Field(None, description="Said to users beside every result.")
    defaults: dict[str, Any] = Field(default_factory=dict, description="Parameter -> default value.")
    maxima: dict[str, int | float] = Field(default_factory=dict, description="Parameter -> largest value.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the family's runner.")


def read(folder: Path, options: Mapping[str, Any]) -> Manifest:
    """Read ``koma.json`` of ``folder`` over its ``defaults.json`` (both may be absent) and lay ``options``
    over it.

    Raises:
        KomaError: ``load_failed`` where either is not of the documented shape.
    """
    try:
        stored = Manifest.model_validate(_json(folder / FILE))
        given = Manifest.model_validate(dict(options))
        called = _from_pipeline(_json(folder / PIPELINE_FILE))
    except (ValidationError, ValueError, TypeError, AttributeError) as error:
        raise KomaError("load_failed", f"{FILE} or options of {folder}: {error}", field="options") from error
    return Manifest(
        notice=given.notice or stored.notice,
        defaults={**called, **stored.defaults, **given.defaults},
        maxima={**stored.maxima, **given.maxima},
        settings={**stored.settings, **given.settings},
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else {}


def _from_pipeline(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults out of pipeline arguments; a temperature is the first of the two that the pipeline takes."""
    return {
        _PIPELINE_NAMES[name]: float(value[0]) if isinstance(value, list) else value
        for name, value in arguments.items()
        if name in _PIPELINE_NAMES
    }
