"""Prompt -> embeddings, first image -> latents, request -> state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from koma.models import prompts
from koma.models.lru import Lru
from koma.models.ltx_video.parts import Parts
from koma.models.ltx_video.schedule import Schedule, make_schedule
from koma.models.media import image as images
from koma.models.seeds import seed_of
from koma.runtime.pulse import beat
from koma.runtime.runner import Request, State
from koma.runtime.turns import Turns


@dataclass(frozen=True)
class Grid:
    """The latent grid of a video: one transformer token per position."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """Number of positions."""
        return self.frames * self.height * self.width


@dataclass(kw_only=True)
class VideoState(State):
    """A job of one video: one row of a forward, or two with guidance."""

    text: torch.Tensor
    """[text tokens, width], without padding"""
    null: torch.Tensor | None
    """The negative prompt; None where guidance is off."""
    guidance: float
    grid: Grid
    schedule: Schedule
    coords: torch.Tensor
    """[1, 3, tokens]: seconds times frames, rows and columns in pixels, as rotary positions"""
    latents: torch.Tensor
    """[1, tokens, channels], float32"""
    fixed: torch.Tensor | None
    """[tokens]: 1 where a token belongs to the given first frame; None for text to video"""
    generator: torch.Generator
    seed: int
    first: Mapping[str, Any]
    """What the answer tells of the given first frame."""
    guess: torch.Tensor | None = None
    """[1, tokens, channels]: the model's guess of the clean latents after the last step"""


class Encoder:
    """Encodes prompts with T5; the last ones stay in memory."""

    def __init__(self, parts: Parts, kept: int = 64) -> None:
        self._parts = parts
        self.counter = prompts.Counter(parts.tokenizer, parts.text_tokens)
        self._texts: Lru[torch.Tensor] = Lru(kept)
        self._turns = Turns()
        """Whose turn it is to encode: as many threads prepare as there are long preparations"""

    def text(self, prompt: str) -> torch.Tensor:
        """Encode ``prompt``, cut at ``text_tokens``, which ``count`` tells: [tokens, width].

        T5 attends to the padding, as the stock pipeline lets it; the transformer does not, so padding is
        dropped here and comes back only as far as the prompts of one forward differ in length.
        """
        return self._texts.get(prompt, lambda: self._encoded(prompt))

    def _encoded(self, prompt: str) -> torch.Tensor:
        with self._turns.turn():
            return self._encode(prompt)

    @torch.inference_mode()
    def _encode(self, prompt: str) -> torch.Tensor:
        batch = self._parts.tokenizer(
            [prompt],
            padding="max_length",
            max_length=self._parts.text_tokens,
            truncation=True,
            return_tensors="pt",
        )
        hidden = self._parts.text_encoder(batch.input_ids.to(self._parts.device))[0][0]
        kept: torch.Tensor = hidden[batch.attention_mask[0].bool().to(hidden.device)]
        return kept


@torch.inference_mode()
def start(request: Request, parts: Parts, encoder: Encoder) -> VideoState:
    """Make the state of a new job: noise from its seed, or its first frame followed by noise."""
    beat()
    params = request.params
    grid = Grid(
        (params.frames - 1) // parts.temporal + 1,
        params.height // parts.spatial,
        params.width // parts.spatial,
    )
    seed = seed_of(params)
    generator = torch.Generator().manual_seed(seed)
    text = encoder.text(params.prompt)
    given = request.inputs.get("image")
    first = None if given is None else images.read(given, "inputs.image")
    latents, fixed = _first_latents(request, first, parts, grid, generator)
    schedule = make_schedule(parts.scheduler, params.steps, grid.tokens, parts.device)
    return VideoState(
        request=request,
        total=schedule.steps,
        prompts=encoder.counter.told(prompts.given(params)),
        text=text,
        null=encoder.text(params.negative_prompt) if params.guidance_scale > 1 else None,
        guidance=params.guidance_scale,
        grid=grid,
        schedule=schedule,
        coords=coordinates(grid, parts, params.fps),
        latents=latents,
        fixed=fixed,
        generator=generator,
        seed=seed,
        first=first.meta if first is not None else {},
    )


def coordinates(grid: Grid, parts: Parts, fps: int) -> torch.Tensor:
    """Rotary positions of every token, [1, 3, tokens], on the scales that the transformer was trained
    with."""
    axes = [torch.arange(size, dtype=torch.float32) for size in (grid.frames, grid.height, grid.width)]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    scale = torch.tensor([parts.temporal / fps, parts.spatial, parts.spatial])
    return (positions * scale[:, None])[None].to(parts.device)


def _first_latents(
    request: Request,
    picture: images.Picture | None,
    parts: Parts,
    grid: Grid,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Latents [1, tokens, channels] to start from, and which of them are given.

    The order of draws is that of the stock pipelines: the image's posterior, then the noise.
    """
    size = (request.params.width, request.params.height)
    first = None if picture is None else _encode_image(picture.pixels, size, parts, generator)
    shape = (1, parts.transformer.config.in_channels, grid.frames, grid.height, grid.width)
    noise = torch.randn(shape, generator=generator).to(parts.device)
    if first is None:
        return pack(noise), None
    noise[:, :, :1] = first
    fixed = torch.zeros(grid.tokens, device=parts.device)
    fixed[: grid.height * grid.width] = 1
    return pack(noise), fixed


def _encode_image(
    image: Image.Image, size: tuple[int, int], parts: Parts, generator: torch.Generator
) -> torch.Tensor:
    """Latents [1, channels, 1, height, width] of a picture, cut to the video's aspect and resized."""
    fitted = np.asarray(ImageOps.fit(image, size, method=Image.Resampling.LANCZOS), dtype=np.float32)
    pixels = torch.from_numpy(fitted / 255 * 2 - 1).permute(2, 0, 1)[None, :, None]
    vae = parts.vae
    posterior = vae.encode(pixels.to(parts.device, vae.dtype)).latent_dist
    latents = posterior.sample(generator).float()
    mean, std = (buffer.view(1, -1, 1, 1, 1).float() for buffer in (vae.latents_mean, vae.latents_std))
    normalised: torch.Tensor = (latents - mean) / std
    return normalised


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[1, channels, frames, height, width] -> [1, tokens, channels]."""
    return latents.flatten(2).transpose(1, 2).contiguous()


def unpack(latents: torch.Tensor, grid: Grid) -> torch.Tensor:
    """[1, tokens, channels] -> [1, channels, frames, height, width]."""
    return latents.transpose(1, 2).unflatten(2, (grid.frames, grid.height, grid.width))
