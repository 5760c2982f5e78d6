"""What a package tells of a model family, so that Koma can serve it: one :class:`Family` object.

A package names its object in the entry-point group ``koma.families``; see docs/families.md. The module
that holds the object must import quickly: importing torch and the like belongs inside ``load``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from koma.runtime.runner import Runner

SHIPPED = Path(__file__).parents[1] / "checkpoints"
"""The checkpoints that ship with Koma: ``NAME/FOLDER``."""
UNTRAINED = "untrained"
"""The checkpoint name of random weights."""


class Loader(Protocol):
    """Loads a checkpoint and returns the runner that serves it."""

    def __call__(
        self, checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]
    ) -> Runner:
        """Load ``checkpoint``; see :func:`koma.models.loading.open_checkpoint` for the arguments."""
        ...


@dataclass(frozen=True)
class Family:
    """One model family: how it is loaded and where its checkpoints come from."""

    name: str
    """What requests, configuration and metrics call it: small letters, digits and ``_``."""
    load: Loader
    default: str = UNTRAINED
    """The checkpoint that the name ``default`` stands for."""
    shipped: Path = SHIPPED
    """Folder of the named checkpoints: checkpoint NAME lies in ``shipped/NAME/folder``."""
    folder: str = ""
    """Folder of this family inside a named checkpoint; empty where the checkpoint holds nothing else."""
    hub_files: tuple[str, ...] = ("*.json", "*.safetensors")
    """Patterns of the files that are wanted from a model hub."""
    untrained: Callable[[Path], dict[str, Any]] | None = None
    """Writes a small checkpoint with random weights into a folder that is not there yet and returns the
    defaults of its parameters; None where the family has no such thing."""
