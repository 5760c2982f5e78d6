"""The jobs that are cancelled: the largest that the shipped checkpoints take, and where each is cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koma.port.messages import InputRef, Phase

_IMAGE = {"n": 8, "width": 128, "height": 128, "steps": 4}
_VIDEO = {"frames": 33, "width": 128, "height": 128, "steps": 4}


@dataclass(frozen=True)
class Case:
    """Jobs of one family, cancelled at a random moment of one phase."""

    family: str
    task: str
    phase: Phase
    what: str
    """What happens in that phase"""
    params: Mapping[str, Any]
    given: str | None = None
    """The input, if any"""

    def inputs(self, files: Mapping[str, InputRef]) -> dict[str, InputRef]:
        """The input of a job, of those that there are."""
        return {} if self.given is None else {self.given: files[self.given]}


def cases() -> list[Case]:
    """All of them."""
    words = {"max_new_tokens": 400}
    understand, paint, film = "video.understand", "image.generate", "video.generate"
    return [
        Case("smolvlm2", understand, "prepare", "decode, look, read the prompt", words, "video"),
        Case("smolvlm2", understand, "step", "answer", words, "image"),
        Case("amused", paint, "prepare", "read the prompt", _IMAGE),
        Case("amused", paint, "step", "8 images at 128 × 128", _IMAGE),
        Case("amused", paint, "finish", "VQ model, PNG", _IMAGE),
        Case("ltx_video", film, "prepare", "read the prompt and the picture", _VIDEO, "image"),
        Case("ltx_video", film, "step", "33 frames at 128 × 128", _VIDEO),
        Case("ltx_video", film, "finish", "VAE, MP4", _VIDEO),
    ]
