"""LTX-Video's autoencoder (`AutoencoderKLLTXVideo`): 17 frames as 5 × 8 × 8 latent vectors and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn import functional

from koma.training.compiling import compiled
from koma.training.loop import SMALL, Run
from koma.training.ltx_parts import (
    FRAMES,
    SPATIAL_RATIO,
    TEMPORAL_RATIO,
    make_vae,
    to_clips,
    to_pixels,
    widths_for,
)
from koma.training.sheets import save_clips, save_grid
from koma.training.world.render import Renderer
from koma.training.world.scene import SceneBatch, Split, sample_batch

EVALUATION_SEED = 10**6
SQUARED_WEIGHT = 4.0
GRADIENT_WEIGHT = 0.5
KL_WEIGHT = 1e-3
GRADIENT_SCALES = 3
OBJECT_WEIGHT = 8.0
"""Weight of an error where an object is: a tenth of the pixels, and nearly all there is to learn."""
MEASURE_BATCH = 32


def gradient_loss(error: Tensor) -> Tensor:
    """Mean absolute difference between neighbouring pixels of the error [B, 3, F, H, W], over halved sizes.

    Penalises blurred and doubled edges, which a pointwise loss hardly sees.
    """
    frames = error.transpose(1, 2).flatten(0, 1)
    total = frames.new_zeros(())
    for _ in range(GRADIENT_SCALES):
        total = total + frames.diff(dim=-1).abs().mean() + frames.diff(dim=-2).abs().mean()
        frames = functional.avg_pool2d(frames, 2)
    return total / GRADIENT_SCALES


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each item: a, b are [B, ...] in [0, 1]."""
    return -10 * torch.log10((a - b).square().flatten(1).mean(1).clamp(min=1e-10))


class LTXVAERun(Run):
    """Trains the autoencoder on rendered clips."""

    name = "ltx-vae"
    exported: ClassVar = {"vae": ""}
    ema_decay = 0.998
    bfloat16_on_cpu = True

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        if size % (2 * SPATIAL_RATIO):
            raise ValueError(f"size must be a multiple of {2 * SPATIAL_RATIO} px, got {size}")
        self.size, self.tiny = size, tiny
        self.frames = 2 * TEMPORAL_RATIO + 1 if tiny else FRAMES
        self.lr = 2e-2 if tiny else 2e-3
        self.batch = batch or (8 if tiny or size <= SMALL else 32)

    def build(self, device: torch.device) -> None:
        """Make the model and the renderer."""
        self.vae = make_vae(widths_for(self.size, self.tiny)).to(device)
        if device.type == "cuda":
            self.vae.to(memory_format=torch.channels_last_3d)
        self.renderer = Renderer(self.size, self.frames, device)
        wanted = self.options.compile and device.type == "cuda"
        self.reconstruct = compiled(self._reconstruct, self.name, wanted)

    def modules(self) -> dict[str, nn.Module]:
        """The autoencoder."""
        return {"vae": self.vae}

    def pixels(self, count: int, seed: int, split: Split = "train") -> Tensor:
        """Rendered clips [count, 3, frames, size, size] in [−1, 1] on the run's device."""
        return to_pixels(self.renderer.clips(sample_batch(count, seed, split)))

    def weights(self, batch: SceneBatch, clips: Tensor) -> Tensor:
        """`OBJECT_WEIGHT` where the uint8 clips of a batch show objects, else 1: [B, 1, F, H, W]."""
        objects = self.renderer.object_pixels(batch, clips)
        return 1 + (OBJECT_WEIGHT - 1) * objects[:, None].float()

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Absolute, squared and gradient error of the pixels, and a little KL that keeps latents smooth."""
        batch = sample_batch(self.batch, self.batch_seed(step), "train")
        clips = self.renderer.clips(batch)
        pixels = to_pixels(clips)
        grid = (self.size // SPATIAL_RATIO,) * 2
        frames = (self.frames - 1) // TEMPORAL_RATIO + 1
        shape = (self.batch, self.vae.config.latent_channels, frames, *grid)
        noise = torch.randn(shape, generator=generator, device=pixels.device)
        weights = self.weights(batch, clips)
        absolute, squared, gradient, kl, plain = self.reconstruct(pixels, noise, weights)
        loss = absolute + SQUARED_WEIGHT * squared + GRADIENT_WEIGHT * gradient + KL_WEIGHT * kl
        return loss, {"psnr": -10 * torch.log10(plain.detach() / 4), "kl": kl.detach()}

    def _reconstruct(self, pixels: Tensor, noise: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Weighted absolute, squared and gradient error, the KL, and the squared error without weights."""
        moments = self.vae.encoder(pixels).float()
        mean, logvar = moments.chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
        latents = mean + torch.exp(0.5 * logvar) * noise
        error = self.vae.decoder(latents).float() - pixels
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        weighted = error * weights
        absolute, squared = weighted.abs().mean(), weighted.square().mean()
        return absolute, squared, gradient_loss(weighted), kl, error.square().mean()

    def sheet(self, path: Path) -> None:
        """Held-out clips over their reconstructions, moving, and their first frames as an image."""
        real = self.pixels(8, EVALUATION_SEED, "heldout")
        restored = self.vae.decode(self.vae.encode(real).latent_dist.mode()).sample
        pairs = zip(to_clips(real).split(4), to_clips(restored).split(4), strict=True)
        clips = torch.cat([part for pair in pairs for part in pair])
        save_clips(clips, path.with_suffix(".gif"))
        save_grid(clips[:, 0], path.with_suffix(".png"), columns=4)

    def export(self, path: Path) -> None:
        """Write the model (float32) with the latents' statistics, and `figures.json` of held-out clips."""
        self.vae.eval()
        self._fill_statistics(64 if self.tiny else 1024)
        figures = self.measure(16 if self.tiny else 256)
        figures |= {"steps": self.result.steps, "minutes": self.result.elapsed / 60}
        print(f"{self.name}: {figures}", flush=True)
        self.vae.to(memory_format=torch.contiguous_format).save_pretrained(path)
        (path / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")

    def _fill_statistics(self, count: int) -> None:
        """Set `latents_mean` and `latents_std`, by which the pipelines normalise, from training clips."""
        batches = (
            self.pixels(min(MEASURE_BATCH, count - i), EVALUATION_SEED + 1 + i)
            for i in range(0, count, MEASURE_BATCH)
        )
        latents = torch.cat([self._posterior(pixels).sample().cpu() for pixels in batches])
        self.vae.latents_mean.copy_(latents.mean((0, 2, 3, 4)))
        self.vae.latents_std.copy_(latents.std((0, 2, 3, 4)))

    def measure(self, count: int) -> dict[str, float]:
        """Mean PSNR (dB) of held-out clips and of their first frames alone, through sampled latents."""
        whole, first = [], []
        for index in range(0, count, MEASURE_BATCH):
            size = min(MEASURE_BATCH, count - index)
            pixels = self.pixels(size, EVALUATION_SEED + 1 + index, "heldout")
            restored = to_clips(self.vae.decode(self._posterior(pixels).sample()).sample)
            whole.append(psnr(restored, to_clips(pixels)))
            first.append(psnr(restored[:, 0], to_clips(pixels)[:, 0]))
        means = [float(torch.cat(values).mean()) for values in (whole, first)]
        return {"psnr": means[0], "first_frame_psnr": means[1], "clips": count}

    def _posterior(self, pixels: Tensor) -> DiagonalGaussianDistribution:
        return self.vae.encode(pixels).latent_dist
