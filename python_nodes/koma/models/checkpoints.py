"""Finds the folder of a checkpoint and names its content by a digest."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

from koma.errors import KomaError

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "checkpoints"
FOLDERS = {"smolvlm2": "smolvlm2", "amused": "amused", "ltx_video": "ltx-video"}
"""Family -> its folder inside a named set of checkpoints."""
UNTRAINED = "untrained"
DEFAULT = "emoji"
"""The trained checkpoints that ship. A family without one is served untrained, and says so."""

_CONTENT = (".json", ".jinja", ".model", ".safetensors", ".txt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = {
    "smolvlm2": ["*.json", "*.jinja", "*.txt", "*.safetensors"],
    "amused": [
        "*.json",
        *(f"{part}/*" for part in ("scheduler", "text_encoder", "tokenizer", "transformer", "vqvae")),
    ],
    "ltx_video": [
        "*.json",
        *(f"{part}/*" for part in ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")),
    ],
}


def resolve(checkpoint: str, family: str) -> Path:
    """Return the folder of ``checkpoint`` for ``family``.

    Args:
        checkpoint: a name below ``koma/checkpoints`` ("emoji"), "untrained", a folder, or a hub id
        ("amused/amused-256").
        family: a key of :data:`FOLDERS`.

    Raises:
        KomaError: ``load_failed`` where there is no such checkpoint.
    """
    shipped = SHIPPED / checkpoint / FOLDERS[family]
    if checkpoint == DEFAULT and not shipped.is_dir():
        logger.warning("no trained checkpoint %s ships for %s: it is served untrained", DEFAULT, family)
        checkpoint = UNTRAINED
    if checkpoint == UNTRAINED:
        from koma.models import untrained

        return untrained.folder(family)
    if re.fullmatch(r"[\w-]+", checkpoint) and shipped.is_dir():
        return shipped
    if checkpoint and Path(checkpoint).is_dir():
        return Path(checkpoint)
    if _HUB_ID.fullmatch(checkpoint):
        return _download(checkpoint, family)
    known = sorted(path.parent.name for path in SHIPPED.glob(f"*/{FOLDERS[family]}"))
    raise KomaError(
        "load_failed",
        f"no checkpoint {checkpoint!r} for {family}: not a folder, not a hub id, and the named ones are "
        + ", ".join([*known, UNTRAINED]),
        field="checkpoint",
        value=checkpoint,
    )


def _download(checkpoint: str, family: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                checkpoint,
                allow_patterns=_HUB_FILES[family],
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
