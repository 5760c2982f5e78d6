"""LTX-Video: rectified flow over the latents of the frozen autoencoder, from text and perhaps a first frame.

The text encoder is trained along. All is fed just as `LTXPipeline` and `LTXImageToVideoPipeline` feed it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo, LTXImageToVideoPipeline, LTXPipeline
from torch import Tensor, nn

from koma.training.compiling import compiled
from koma.training.export import pipeline_arguments
from koma.training.latent_pool import Encoded, LatentPool
from koma.training.loop import SMALL, Run, derive_seed
from koma.training.ltx_export import export_pipeline
from koma.training.ltx_parts import (
    FPS,
    FRAMES,
    SHIFT,
    SPATIAL_RATIO,
    TEMPORAL_RATIO,
    TEXT_TOKENS,
    make_pipeline,
    make_text_encoder,
    make_tokenizer,
    make_transformer,
    node_defaults,
    share_cases,
    to_pixels,
    video_coordinates,
    widths_for,
)
from koma.training.sheets import save_clips
from koma.training.world.captions import captions
from koma.training.world.render import Renderer
from koma.training.world.scene import CELLS, STRIDE, arranged, sample_batch

Use = Literal["text", "image"]
EVALUATION_SEED = 10**6
CHUNK_SEEDS = {"text": 10**9, "image": 2 * 10**9}
"""Chunks of the two pools take their seeds from here on, where no step counts."""
TEXT_DROPOUT = 0.1
FIRST_FRAME_SHARE = 0.4
LONG_TEXT_TOKENS = 128
"""Length to which the pipelines pad a prompt by default; the text encoder sees it, so some steps use it."""
LONG_TEXT_EVERY = 4
UNIFORM_SHARE = 0.15
REUSE = 8
ENCODE_BATCH = 64


def sample_sigmas(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Noise levels [count] in (0, 1): logit-normal (Esser et al., 2024), shifted by `SHIFT`; some uniform."""
    normal = torch.randn(count, generator=generator, device=device)
    uniform = torch.rand(count, generator=generator, device=device)
    choice = torch.rand(count, generator=generator, device=device)
    return torch.where(choice < UNIFORM_SHARE, uniform, torch.sigmoid(normal + math.log(SHIFT)))


def flow(latents: Tensor, noise: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Point and velocity of the straight path: x = (1 − σ)·x₀ + σ·ε and ε − x₀; σ is [B] or [B, S]."""
    level = sigma.view(*sigma.shape, *(1,) * (latents.ndim - sigma.ndim))
    return torch.lerp(latents, noise, level), noise - latents


def load_vae(folder: Path, latent_channels: int, device: torch.device) -> AutoencoderKLLTXVideo:
    """The frozen autoencoder that `koma train ltx-vae` left in `folder`."""
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"no autoencoder at {folder}: first `koma train ltx-vae`, --out beside it")
    vae = AutoencoderKLLTXVideo.from_pretrained(folder).to(device).eval().requires_grad_(False)
    found = vae.config.latent_channels
    if found != latent_channels:
        raise ValueError(f"{folder} has {found} latent channels, this model {latent_channels}")
    return vae.to(memory_format=torch.channels_last_3d) if device.type == "cuda" else vae


class LTXRun(Run):
    """Trains transformer and text encoder; the autoencoder comes from the run `ltx-vae` beside this one."""

    name = "ltx"
    exported: ClassVar = {"transformer": "transformer", "text_encoder": "text_encoder"}
    ema_decay = 0.999
    bfloat16_on_cpu = True

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        if size % (2 * SPATIAL_RATIO):
            raise ValueError(f"size must be a multiple of {2 * SPATIAL_RATIO} px, got {size}")
        self.size, self.tiny = size, tiny
        self.frames = 2 * TEMPORAL_RATIO + 1 if tiny else FRAMES
        self.lr = 1e-2 if tiny else 2e-3
        small = size <= SMALL
        self.batch = batch or (16 if tiny else 32 if small else 256)
        self.chunk = 16 if tiny else 256 if small else 4096
        self.cells = CELLS if small else None
        """Clips made from text alone are arranged, as aMUSEd's small pictures are: there are far fewer to
        learn. First frames are half like these, half any others."""

    def build(self, device: torch.device) -> None:
        """Load the autoencoder, make the models, the renderer and the pool."""
        self.device = device
        widths = widths_for(self.size, self.tiny)
        start = self.options.start_from
        self.vae_folder = start / "vae" if start else self.options.out.parent / "ltx-vae" / "export"
        self.vae = load_vae(self.vae_folder, widths.latent_channels, device)
        self.tokenizer = make_tokenizer()
        self.text_encoder = make_text_encoder(widths, self.tokenizer).to(device)
        self.transformer = make_transformer(widths).to(device)
        side = self.size // SPATIAL_RATIO
        self.per_frame = side * side
        self.coordinates = video_coordinates((self.frames - 1) // TEMPORAL_RATIO + 1, side, side, device)
        self.null = self._tokens([""])
        self.renderer = Renderer(self.size, self.frames, device)
        self.from_image = round(FIRST_FRAME_SHARE * self.batch)
        self.image_pool = self._pool("image", self.from_image)
        self.text_pool = self._pool("text", self.batch - self.from_image)
        wanted = self.options.compile and device.type == "cuda"
        self.encode = compiled(self._encode, "ltx: encoding", wanted, dynamic=False)
        self.velocity_error = compiled(self._velocity_error, "ltx: transformer", wanted, dynamic=False)

    def _pool(self, use: Use, rows: int) -> LatentPool:
        """A pool from which every step draws `rows` clips."""
        refresh = max(1, self.chunk * REUSE // rows)
        return LatentPool(partial(self._encode_chunk, use), chunks=4, refresh=refresh)

    def modules(self) -> dict[str, nn.Module]:
        """The transformer and the text encoder."""
        return {"transformer": self.transformer, "text_encoder": self.text_encoder}

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Squared error of the velocity; the first rows of the batch keep their first latent frame clean."""
        kept = self.from_image
        drawn = (
            self.image_pool.draw(step, kept, generator),
            self.text_pool.draw(step, self.batch - kept, generator),
        )
        batch = self._without_some_texts(Encoded.joined(drawn), generator)
        noise = torch.randn(batch.latents.shape, generator=generator, device=self.device)
        sigma = sample_sigmas(self.batch, generator, self.device)
        text = self._encode_text(batch, LONG_TEXT_TOKENS if step % LONG_TEXT_EVERY == 0 else TEXT_TOKENS)
        first = torch.arange(batch.latents.shape[1], device=self.device) < self.per_frame
        by_token = torch.where(first, 0.0, sigma[:kept, None])
        image_rows, text_rows = slice(0, kept), slice(kept, None)
        inputs = (batch.latents, noise, text, batch.mask)
        errors = self.velocity_error(by_token, *(part[image_rows] for part in inputs))
        with_image = errors[:, self.per_frame :].mean()
        alone = self.velocity_error(sigma[text_rows], *(part[text_rows] for part in inputs)).mean()
        loss = (kept * with_image + (self.batch - kept) * alone) / self.batch
        return loss, {"from text": alone.detach(), "from image": with_image.detach()}

    def _velocity_error(
        self, sigma: Tensor, latents: Tensor, noise: Tensor, text: Tensor, mask: Tensor
    ) -> Tensor:
        """Squared error [B, S] of the predicted velocity; σ is [B], or [B, S] where tokens differ."""
        noisy, velocity = flow(latents, noise, sigma)
        predicted = self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=text,
            timestep=1000 * sigma,
            encoder_attention_mask=mask,
            video_coords=self.coordinates,
            return_dict=False,
        )[0]
        return (predicted.float() - velocity).square().mean(-1)

    def _without_some_texts(self, batch: Encoded, generator: torch.Generator) -> Encoded:
        """Replace a tenth of the prompts by the empty one, as guidance does."""
        ids, mask = self.null
        dropped = torch.rand(self.batch, 1, generator=generator, device=self.device) < TEXT_DROPOUT
        kept_ids, kept_mask = torch.where(dropped, ids, batch.ids), torch.where(dropped, mask, batch.mask)
        return Encoded(batch.latents, kept_ids, kept_mask)

    def _encode_text(self, batch: Encoded, length: int) -> Tensor:
        """Text states [B, TEXT_TOKENS, D] of prompts padded to `length`, without a mask, as in the pipelines.

        What lies beyond TEXT_TOKENS is padding, which the transformer's mask hides anyway.
        """
        missing = length - batch.ids.shape[1]
        ids = nn.functional.pad(batch.ids, (0, missing), value=self.tokenizer.pad_token_id)
        states: Tensor = self.text_encoder(ids)[0]
        return states[:, :TEXT_TOKENS].contiguous()

    def _tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        encoded = self.tokenizer(
            texts, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
        )
        return encoded.input_ids.to(self.device), encoded.attention_mask.bool().to(self.device)

    @torch.no_grad()
    def _encode_chunk(self, use: Use, number: int) -> Encoded:
        """Render, encode and caption one chunk of a pool."""
        seed = derive_seed(self.options.seed, CHUNK_SEEDS[use] + number)
        batch = sample_batch(self.chunk, seed, "train")
        if self.cells and (use == "text" or number % 2):
            batch = arranged(batch, self.cells, STRIDE)
        generator = torch.Generator(self.device).manual_seed(seed)
        size = min(ENCODE_BATCH, self.chunk)
        parts = [
            self.encode(self.renderer.clips(batch[i : i + size]), self._noise(size, generator))
            for i in range(0, self.chunk, size)
        ]
        return Encoded(torch.cat(parts), *self._tokens(captions(batch, np.random.default_rng(seed))))

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        side = self.size // SPATIAL_RATIO
        frames = self.coordinates.shape[2] // self.per_frame
        shape = (count, self.vae.config.latent_channels, frames, side, side)
        return torch.randn(shape, generator=generator, device=self.device)

    def _encode(self, clips: Tensor, noise: Tensor) -> Tensor:
        """Normalised latent tokens [B, S, C] of uint8 clips, drawn from the autoencoder's posterior."""
        mean, logvar = self.vae.encoder(to_pixels(clips)).float().chunk(2, dim=1)
        latents = mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * noise
        middle, spread = (v.view(1, -1, 1, 1, 1) for v in (self.vae.latents_mean, self.vae.latents_std))
        return ((latents - middle) / spread).flatten(2).transpose(1, 2).contiguous()

    def pipeline(self) -> LTXPipeline:
        """The stock pipeline around the parts as they are now."""
        return make_pipeline(self.vae, self.transformer, self.text_encoder, self.tokenizer)

    def sheet(self, path: Path) -> None:
        """Held-out captions: real clips, clips from the text, clips from text and real first frame."""
        count = 2 if self.tiny else 6
        batch = sample_batch(count, EVALUATION_SEED, "heldout")
        texts = captions(batch, np.random.default_rng(EVALUATION_SEED))
        real = self.renderer.clips(batch)
        first = real[:, 0].float() / 255
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        from_image = LTXImageToVideoPipeline(**pipeline.components)
        from_image.set_progress_bar_config(disable=True)
        call = pipeline_arguments(node_defaults(self.size, self.frames))
        call |= {"prompt": texts, "output_type": "pt", "max_sequence_length": TEXT_TOKENS}
        if self.tiny:
            call["num_inference_steps"] = 2
        generator = torch.Generator(self.device).manual_seed(EVALUATION_SEED)
        made = pipeline(generator=generator, **call).frames
        continued = from_image(first, generator=generator, **call).frames
        rows = torch.cat([real.float().cpu() / 255, made.float().cpu(), continued.float().cpu()])
        save_clips(rows, path.with_suffix(".gif"), columns=count, fps=FPS, captions=texts * 3)

    def export(self, path: Path) -> None:
        """Write the whole pipeline in float16 with its model card."""
        share_cases(self.text_encoder, self.tokenizer)
        figures = self.vae_folder / "figures.json"
        measured = json.loads(figures.read_text()) if figures.exists() else {}
        defaults = node_defaults(self.size, self.frames)
        export_pipeline(self.pipeline(), path, defaults, self.cells, measured, self.result)
        self.sheet(path / "samples")
