"""What the operator wants: which marks, with which keys. The gateway tells it to every model node."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from koma.errors import KomaError

VARIABLE = "KOMA_PROVENANCE_SETTINGS"
"""Environment variable with the settings as JSON."""


@dataclass(frozen=True)
class Settings:
    """Which marks outputs get, and where the keys lie."""

    folder: Path
    """Folder of the server's own keys; made where it is absent."""
    invisible: bool = True
    """Whether pixels are marked."""
    signed: bool = True
    """Whether files are signed."""
    chain: Path | None = None
    """An operator's own certificates, PEM, the one of the key first."""
    key: Path | None = None
    """Its private key, PEM, PKCS#8."""
    timestamps: str | None = None
    """URL of a time-stamp authority (RFC 3161)."""
    prompts: bool = False
    """Whether the statement names prompts and seed."""


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings | None:
    """Return the settings that the gateway gave; None where there are none, as in a runner's own tests.

    Raises KomaError ``load_failed`` where they are not of the documented shape.
    """
    text = environment.get(VARIABLE)
    if not text:
        return None
    try:
        told = json.loads(text)
        unknown = set(told) - {field.name for field in fields(Settings)}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        paths = {name: Path(told[name]) for name in ("folder", "chain", "key") if told.get(name)}
        return Settings(**{**told, "chain": None, "key": None, **paths})
    except (ValueError, TypeError, KeyError) as error:
        message = f"the variable {VARIABLE} is not understood: {error}"
        raise KomaError("load_failed", message, field=VARIABLE) from error
