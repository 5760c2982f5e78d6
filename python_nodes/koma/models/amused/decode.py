"""Tokens -> pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from koma.models.amused.parts import Parts


@torch.inference_mode()
def pixels(parts: Parts, tokens: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Decode token ids [n, height, width], none of them masked, to images [n, height, width, 3] of bytes."""
    vqvae = parts.vqvae
    shape = (*tokens.shape, vqvae.config.latent_channels)
    images = vqvae.decode(tokens, force_not_quantize=True, shape=shape).sample
    scaled = (images.float().clip(0, 1) * 255).round().to(torch.uint8)
    array: npt.NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return array
