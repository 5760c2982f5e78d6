"""What is found in one file, each layer apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from koma.errors import KomaError
from koma.models.media import image, sniff, video
from koma.provenance.mark import detect, evidence
from koma.provenance.mark.blocks import Pixels
from koma.provenance.mark.pattern import Pattern
from koma.provenance.signing.chain import Chain
from koma.provenance.step import MARK_NAME
from koma.provenance.verify import statement
from koma.runtime.runner import InputFile

MAX_FRAMES = 12
"""Frames of a video that vote."""


def examine(path: Path, media_type: str, key: Pattern, chain: Chain | None) -> dict[str, Any]:
    """Return what the file at ``path`` bears: ``c2pa`` and ``watermark``.

    ``media_type`` is by its bytes. Where pixels cannot be decoded, the note of the watermark says why.
    """
    return {"c2pa": statement.told(path, media_type, chain), "watermark": _watermark(path, media_type, key)}


def _watermark(path: Path, media_type: str, key: Pattern) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": MARK_NAME, "found": False, "threshold": round(evidence.THRESHOLD, 2)}
    told["false_positive_rate"] = evidence.FALSE_POSITIVES
    try:
        pixels = _pixels(path, media_type)
    except KomaError as error:
        return {**told, "note": error.message}
    reading = detect.detect(pixels, key)
    if reading is None:
        return {**told, "note": "the picture is too small for a mark"}
    told |= {"found": reading.found, "score": round(reading.score, 2), "frames": len(pixels)}
    if reading.found:
        told |= {"chance": evidence.chance(reading.score), "version": reading.payload.version}
        told["id"] = reading.payload.id if reading.payload.sound else None
    return told


def _pixels(path: Path, media_type: str) -> Sequence[Pixels]:
    """Decode a picture, or frames of a video that lie evenly in it, within the limits of all media."""
    file = InputFile(path, "", media_type, path.stat().st_size)
    if media_type in sniff.IMAGE_TYPES:
        return [np.asarray(image.read(file, "file").pixels)]
    if media_type not in sniff.VIDEO_TYPES:
        raise KomaError("unsupported_media", f"no mark is looked for in {media_type}", field="file")
    found = video.probe(file, "file")
    count = min(MAX_FRAMES, found.frames)
    chosen = sorted({round(place) for place in np.linspace(0, found.frames - 1, count)})
    return list(video.frames(file, chosen, "file", found))
