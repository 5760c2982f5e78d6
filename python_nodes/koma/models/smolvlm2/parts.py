"""The modules of a SmolVLM2 checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from koma.models.beats import beat_in
from koma.models.components import load_model, load_part
from koma.models.device import Placement
from koma.runtime.turns import Turns


@dataclass(frozen=True)
class Parts:
    """A loaded checkpoint of ``SmolVLMForConditionalGeneration``."""

    model: Any
    processor: Any
    device: torch.device
    turns: Turns = field(default_factory=Turns)
    """Whose turn it is to compute with it: the thread that prepares, or the one that steps"""

    @property
    def context(self) -> int:
        """Tokens that the language model was made for: prompt, frames and answer together."""
        return int(self.model.config.text_config.max_position_embeddings)

    @property
    def max_frames(self) -> int:
        """Most frames of a video, from the processor's ``video_sampling``."""
        return int(getattr(self.processor.video_processor, "num_frames", None) or 64)

    @property
    def fps(self) -> float:
        """Frames a second that are read, from the processor's ``video_sampling``."""
        return float(getattr(self.processor.video_processor, "fps", None) or 1)

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ids = self.model.generation_config.eos_token_id
        return frozenset(ids if isinstance(ids, list) else [ids])


def load(folder: Path, placement: Placement) -> Parts:
    """Load the parts from ``folder``; raises ``load_failed``."""
    from transformers import SmolVLMForConditionalGeneration, SmolVLMProcessor

    model = load_model(SmolVLMForConditionalGeneration, folder, placement.dtype, placement.device)
    beat_in(model.model.vision_model)
    return Parts(
        model=model,
        processor=load_part(SmolVLMProcessor, folder),
        device=placement.device,
    )
