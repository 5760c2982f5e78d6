"""The modules of an aMUSEd checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from koma.models.beats import beat_in
from koma.models.components import load_model, load_part
from koma.models.device import Placement


@dataclass(frozen=True)
class Parts:
    """A loaded checkpoint in the folder format of ``diffusers.AmusedPipeline``."""

    tokenizer: Any
    text_encoder: Any
    transformer: Any
    vqvae: Any
    scheduler: Any
    device: torch.device

    @property
    def mask_id(self) -> int:
        """The token id of what is not known yet."""
        return int(self.scheduler.config.mask_token_id)

    @property
    def token_side(self) -> int:
        """Pixels of the side of one image token."""
        return int(2 ** (len(self.vqvae.config.block_out_channels) - 1))

    @property
    def native_side(self) -> int:
        """Side in pixels of the images that the checkpoint was trained on."""
        return int(self.transformer.config.sample_size) * self.token_side

    @property
    def multiple(self) -> int:
        """Sides of images must be multiples of this: a U-ViT that halves its grid needs an even one."""
        return self.token_side * (2 if self.transformer.config.downsample else 1)


def load(folder: Path, placement: Placement) -> Parts:
    """Load the parts from ``folder``.

    The VQ model is never put into float16, where it overflows, and never changes its type afterwards: the
    stock pipeline upcasts it around each decode, which two threads must not do to one module.
    """
    from diffusers import AmusedScheduler, UVit2DModel, VQModel
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    dtype, device = placement.dtype, placement.device
    parts = Parts(
        tokenizer=load_part(CLIPTokenizer, folder / "tokenizer"),
        text_encoder=load_model(CLIPTextModelWithProjection, folder / "text_encoder", dtype, device),
        transformer=load_model(UVit2DModel, folder / "transformer", dtype, device),
        vqvae=load_model(VQModel, folder / "vqvae", placement.stable_dtype, device),
        scheduler=load_part(AmusedScheduler, folder / "scheduler"),
        device=device,
    )
    for model in (parts.text_encoder, parts.transformer, parts.vqvae):
        beat_in(model)
    return parts
