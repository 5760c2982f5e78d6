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


class Manifest(BaseModel):
    """Defaults and bounds of a checkpoint. The ``options`` of a model node have the same keys and win over
    the file."""

    model_config = ConfigDict(extra="forbid")

    notice: str | None = Field(None, description="Said to users beside every result.")
    defaults: dict[str, Any] = Field(default_factory=dict, description="Parameter -> default value.")
    maxima: dict[str, int | float] = Field(default_factory=dict, description="Parameter -> largest value.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the family's runner.")


def read(folder: Path, options: Mapping[str, Any]) -> Manifest:
    """Read ``folder/koma.json`` (absent is fine) and lay ``options`` over it.

    Raises:
        KomaError: ``load_failed`` where either is not of the documented shape.
    """
    path = folder / FILE
    try:
        stored = Manifest.model_validate(json.loads(path.read_text()) if path.is_file() else {})
        given = Manifest.model_validate(dict(options))
    except (ValidationError, ValueError, TypeError) as error:
        raise KomaError("load_failed", f"{FILE} or options of {folder}: {error}", field="options") from error
    return Manifest(
        notice=given.notice or stored.notice,
        defaults={**stored.defaults, **given.defaults},
        maxima={**stored.maxima, **given.maxima},
        settings={**stored.settings, **given.settings},
    )
