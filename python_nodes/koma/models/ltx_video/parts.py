"""The modules of an LTX-Video checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koma.errors import KomaError
from koma.models.beats import beat_in
from koma.models.components import load_model, load_part
from koma.models.device import Placement

PIPELINE_MULTIPLE = 32
"""The stock pipelines refuse other sizes whatever the VAE; so does Koma, to stay comparable."""
MAX_TEXT_TOKENS = 128
"""What the stock pipelines read of a prompt."""


class Settings(BaseModel):
    """``settings`` of ``koma.json``: how a VAE with a timestep (0.9.1 and later) decodes."""

    model_config = ConfigDict(extra="forbid")

    decode_timestep: float = Field(0.05, ge=0, le=1, description="The noise level that the decoder is told.")
    decode_noise_scale: float = Field(
        0.025, ge=0, le=1, description="The noise mixed into the latents before it."
    )


@dataclass(frozen=True)
class Parts:
    """A loaded checkpoint in the folder format of ``diffusers.LTXPipeline``."""

    tokenizer: Any
    text_encoder: Any
    transformer: Any
    vae: Any
    scheduler: Any
    settings: Settings
    device: torch.device

    @property
    def spatial(self) -> int:
        """Pixels of the side of one latent position."""
        return int(self.vae.spatial_compression_ratio)

    @property
    def temporal(self) -> int:
        """Frames of one latent frame after the first."""
        return int(self.vae.temporal_compression_ratio)

    @property
    def multiple(self) -> int:
        """Sides of videos must be multiples of this."""
        return math.lcm(self.spatial, PIPELINE_MULTIPLE)

    @property
    def text_tokens(self) -> int:
        """Tokens that are read of a prompt."""
        return min(MAX_TEXT_TOKENS, int(self.tokenizer.model_max_length))

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the transformer."""
        dtype: torch.dtype = self.transformer.dtype
        return dtype


def load(folder: Path, placement: Placement, settings: Mapping[str, Any]) -> Parts:
    """Load the parts from ``folder``.

    Raises:
        KomaError: ``load_failed``, also for unknown settings and for transformers that patch the latents
            (no released checkpoint does).
    """
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXVideoTransformer3DModel,
    )
    from transformers import AutoTokenizer, T5EncoderModel

    try:
        checked = Settings.model_validate(dict(settings))
    except ValidationError as error:
        raise KomaError("load_failed", f"settings of {folder}: {error}", field="settings") from error
    dtype, device = placement.dtype, placement.device
    transformer = load_model(LTXVideoTransformer3DModel, folder / "transformer", dtype, device)
    if (transformer.config.patch_size, transformer.config.patch_size_t) != (1, 1):
        raise KomaError("load_failed", f"{folder}: a transformer with patches", field="checkpoint")
    parts = Parts(
        tokenizer=load_part(AutoTokenizer, folder / "tokenizer"),
        text_encoder=load_model(T5EncoderModel, folder / "text_encoder", dtype, device),
        transformer=transformer,
        vae=load_model(AutoencoderKLLTXVideo, folder / "vae", placement.stable_dtype, device),
        scheduler=load_part(FlowMatchEulerDiscreteScheduler, folder / "scheduler"),
        settings=checked,
        device=device,
    )
    for model in (parts.text_encoder, transformer, parts.vae):
        beat_in(model)
    return parts
