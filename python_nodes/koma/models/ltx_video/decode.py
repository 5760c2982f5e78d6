"""Latents -> frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from koma.models.ltx_video.encode import Grid, VideoState, unpack
from koma.models.ltx_video.parts import Parts


@torch.inference_mode()
def frames(parts: Parts, state: VideoState) -> npt.NDArray[np.uint8]:
    """Decode a finished job: [frames, height, width, 3] of RGB bytes."""
    latents = _denormalised(parts, unpack(state.latents, state.grid))
    if parts.vae.config.timestep_conditioning:
        noise = torch.randn(latents.shape, generator=state.generator).to(latents.device)
        share = parts.settings.decode_noise_scale
        latents = (1 - share) * latents + share * noise
    return _decode(parts, latents)


@torch.inference_mode()
def middle_frame(parts: Parts, guess: torch.Tensor, grid: Grid) -> npt.NDArray[np.uint8]:
    """Decode the frame in the middle of a guess [1, tokens, channels], [height, width, 3], from two latent
    frames."""
    middle = grid.frames // 2
    around = unpack(guess, grid)[:, :, max(0, middle - 1) : middle + 1]
    picture: npt.NDArray[np.uint8] = _decode(parts, _denormalised(parts, around))[-1]
    return picture


def _denormalised(parts: Parts, latents: torch.Tensor) -> torch.Tensor:
    vae = parts.vae
    mean, std = (buffer.view(1, -1, 1, 1, 1).float() for buffer in (vae.latents_mean, vae.latents_std))
    scaled: torch.Tensor = latents * std / vae.config.scaling_factor + mean
    return scaled


def _decode(parts: Parts, latents: torch.Tensor) -> npt.NDArray[np.uint8]:
    vae = parts.vae
    level = None
    if vae.config.timestep_conditioning:
        level = torch.tensor([parts.settings.decode_timestep], device=latents.device, dtype=vae.dtype)
    video = vae.decode(latents.to(vae.dtype), level, return_dict=False)[0][0]
    scaled = ((video.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    array: npt.NDArray[np.uint8] = scaled.permute(1, 2, 3, 0).cpu().numpy()
    return array
