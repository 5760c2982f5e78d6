"""Finds the folder of a checkpoint and names its content by a digest."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

from koma.errors import KomaError
from koma.models.family import UNTRAINED, Family

logger = logging.getLogger(__name__)

DEFAULT = "default"
"""Stands for the checkpoint that a family names as its default."""

_CONTENT = (".json", ".jinja", ".model", ".safetensors", ".txt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(checkpoint: str, family: Family) -> Path:
    """Return the folder of ``checkpoint`` for ``family``.

    Args:
        checkpoint: "default", a name below the family's shipped checkpoints ("emoji"), "untrained", a
            folder, or a hub id ("amused/amused-256").
        family: whose checkpoint it is.

    Raises:
        KomaError: ``load_failed`` where there is no such checkpoint.
    """
    name = family.default if checkpoint == DEFAULT else checkpoint
    shipped = family.shipped / name / family.folder
    if name == family.default and name != UNTRAINED and not shipped.is_dir():
        logger.warning("no trained checkpoint %s ships for %s: it is served untrained", name, family.name)
        name = UNTRAINED
    if name == UNTRAINED:
        from koma.models import untrained

        return untrained.folder(family)
    if re.fullmatch(r"[\w-]+", name) and shipped.is_dir():
        return shipped
    if name and Path(name).is_dir():
        return Path(name)
    if _HUB_ID.fullmatch(name):
        return _download(name, family)
    raise KomaError(
        "load_failed",
        f"no checkpoint {name!r} for {family.name}: not a folder, not a hub id, and the named ones are "
        + ", ".join([*named(family), UNTRAINED]),
        field="checkpoint",
        value=name,
    )


def named(family: Family) -> list[str]:
    """Return the names of the checkpoints that ship with ``family``."""
    return sorted(
        path.name for path in family.shipped.glob("*") if path.is_dir() and (path / family.folder).is_dir()
    )


def _download(checkpoint: str, family: Family) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                checkpoint,
                allow_patterns=list(family.hub_files),
                ignore_patterns=["*.bin", "*.fp16.*", "*.onnx*"],
            )
        )
    except Exception as error:  # the hub client raises many unrelated classes; all mean: not to be had
        raise KomaError(
            "load_failed",
            f"checkpoint {checkpoint!r} is neither a folder here nor to be had from the hub: {error}",
            field="checkpoint",
            value=checkpoint,
        ) from error


def digest(folder: Path) -> str:
    """Return the SHA-256 over names and contents of the files that decide what the checkpoint computes.

    Files of the hub's cache are links to blobs named by their content: the name is taken instead of reading
    gigabytes.
    """
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _CONTENT and path.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{_content_name(path)}\n".encode())
    return total.hexdigest()


def _content_name(path: Path) -> str:
    target = path.resolve()
    if path.is_symlink() and target.parent.name == "blobs":
        return target.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
