"""What a measurement runs: which checkpoints, on what, and what requests ask of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from koma.models import checkpoints, manifest, registry

FAMILIES = ("smolvlm2", "amused", "ltx_video")
SLOTS = 8
_ASKED = ("width", "height", "frames", "fps", "guidance_scale")
"""The defaults of a checkpoint that each request names, so that Koma and the stock pipelines do the same."""


@dataclass(frozen=True)
class Setting:
    """Checkpoints by family, where they run, and the parameters that all requests of a family have."""

    checkpoints: Mapping[str, str]
    """Family -> name or folder, as :func:`koma.models.checkpoints.resolve` takes them."""
    params: Mapping[str, Mapping[str, Any]]
    device: str = "cpu"
    dtype: str = "float32"
    count: int = 1
    """Model nodes of each family"""
    threads: int | None = None
    """Of each model node; none: as many as there are cores."""
    faster: float = 2.0
    """Times the throughput of one at a time that is demanded at saturation."""

    def models_file(self) -> str:
        """The text of a ``KOMA_MODELS_FILE`` with the model nodes of each family."""
        place = f"device: {_quoted(self.device)}, dtype: {_quoted(self.dtype)}"
        common = f"count: {self.count}, slots: {SLOTS}, {place}"
        if self.threads is not None:
            common += f", threads: {self.threads}"
        entries = (
            f"%{{name: {_quoted(family)}, family: {_quoted(family)}, checkpoint: {_quoted(name)}, {common}}}"
            for family, name in self.checkpoints.items()
        )
        return "[\n  " + ",\n  ".join(entries) + "\n]\n"

    def to_json(self) -> str:
        """For another process; see :func:`from_json`."""
        return json.dumps(asdict(self))


def from_json(text: str) -> Setting:
    """Read what ``to_json`` wrote."""
    return Setting(**json.loads(text))


def emoji(count: int = 1) -> Setting:
    """The checkpoints that ship, as config/models.exs has them, on the processor; ``count`` model nodes of
    each family."""
    folders = {family: checkpoints.resolve("emoji", registry.find(family)) for family in FAMILIES}
    known = {family: manifest.read(folder, {}).defaults for family, folder in folders.items()}
    params = {
        family: {name: value for name, value in defaults.items() if name in _ASKED}
        for family, defaults in known.items()
    }
    return Setting(dict.fromkeys(FAMILIES, "emoji"), params, count=count, threads=1)


def _quoted(text: str) -> str:
    # Elixir reads a JSON string as its own, but for interpolation.
    return json.dumps(text, ensure_ascii=False).replace("#{", "\\#{")
