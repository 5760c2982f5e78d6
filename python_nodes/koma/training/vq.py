"""VQ: 16×16 tokens of an image and back (`VQModel` of diffusers), trained with a moving-average codebook.

Small ones learn half of their images from tokens laid together, see `Composition`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import VQModel
from torch import Tensor, nn

from koma.training.compiling import compiled
from koma.training.composition import Composition
from koma.training.loop import SMALL, Run
from koma.training.sheets import save_grid
from koma.training.world.render import Renderer
from koma.training.world.scene import CELLS, SceneBatch, Split, sample_batch, snapped

WIDTHS, SMALL_WIDTHS, TINY_WIDTHS = [32, 64, 96, 128], [16, 32, 64], [8, 16, 16, 16]
"""Channels of the levels of a 128 px image, from full resolution down; `SMALL_WIDTHS` up to `SMALL` px."""
GRID = 16
"""Tokens on a side, whatever the size of the image."""
VARIANCE = 0.06
"""Variance of the world's pixels in [0, 1]: the squared error is measured in it."""
EVALUATION_SEED = 10**6
OBJECT_WEIGHT = 3.0
"""Weight of an error where an object is: a tenth of the pixels, and nearly all there is to learn."""
RESEED_UNTIL = 0.7


def vq_config(size: int, tiny: bool) -> dict[str, object]:
    """Arguments of `VQModel` for images of `size` px: one level for each halving down to the token grid.

    The width at full resolution decides the cost of a decode; the width at the token grid, where the context
    is that tells one emoji from another, costs little.
    """
    levels = (size // GRID).bit_length()
    if size != GRID << (levels - 1) or levels < 2:
        raise ValueError(f"size must be a power of two of at least {2 * GRID} px, got {size}")
    small = size <= SMALL
    widths = TINY_WIDTHS if tiny else SMALL_WIDTHS if small else WIDTHS
    widths = [*widths[-levels:], *widths[-1:] * (levels - len(widths))]
    return {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": 1,
        "latent_channels": 16,
        "num_vq_embeddings": 64 if tiny else 512 if small else 1024,
        "norm_num_groups": 8,
        "mid_block_add_attention": not small,
        "lookup_from_codebook": True,
        "force_upcast": True,
        "sample_size": size,
    }


@torch.no_grad()
def encode_tokens(model: VQModel, images: Tensor) -> Tensor:
    """Token ids [B, H, W] (int64) of images [B, 3, S, S] in [0, 1]."""
    latents = model.quant_conv(model.encoder(images)).float()
    ids = nearest_codes(latents, model.quantize.embedding.weight.float())
    return ids.view(len(images), *latents.shape[2:])


@torch.no_grad()
def decode_tokens(model: VQModel, ids: Tensor) -> Tensor:
    """Images [B, 3, S, S] in [0, 1] of token ids [B, H, W]."""
    shape = (*ids.shape, model.config.latent_channels)
    images: Tensor = model.decode(ids, force_not_quantize=True, shape=shape).sample
    return images.clamp(0, 1)


def nearest_codes(latents: Tensor, codes: Tensor) -> Tensor:
    """Index [B·H·W] of the code, a row of `codes` [K, D], that is nearest to each latent of [B, D, H, W]."""
    with torch.autocast(latents.device.type, enabled=False):
        flat = latents.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
        return (codes.square().sum(1) - 2 * flat @ codes.T).argmin(1)


class MovingCodebook(nn.Module):
    """Counts and sums of the latents of each code, forgotten slowly; a code is their mean.

    Van den Oord et al., "Neural discrete representation learning" (2017), appendix A.
    """

    usage: Tensor
    total: Tensor

    def __init__(self, codes: int, width: int, decay: float = 0.98) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("usage", torch.zeros(codes))
        self.register_buffer("total", torch.zeros(codes, width))

    @torch.no_grad()
    def update(
        self, codes: Tensor, latents: Tensor, ids: Tensor, reseed: bool, generator: torch.Generator
    ) -> None:
        """Move `codes` [K, D] in place towards their latents [N, D]; with `reseed` the dead jump."""
        counts = torch.zeros_like(self.usage).index_add_(0, ids, torch.ones_like(latents[:, 0]))
        sums = torch.zeros_like(self.total).index_add_(0, ids, latents)
        self.usage.lerp_(counts, 1 - self.decay)
        self.total.lerp_(sums, 1 - self.decay)
        usage = self.usage[:, None]
        moved = torch.where(usage > 1e-3, self.total / usage.clamp(min=1e-3), codes)
        if reseed:
            expected = len(latents) / len(codes)
            dead = usage < 0.03 * expected
            rows = torch.randint(len(latents), (len(codes),), generator=generator, device=latents.device)
            moved = torch.where(dead, latents[rows], moved)
            self.usage.copy_(torch.where(dead[:, 0], expected * 0.2, self.usage))
            self.total.copy_(torch.where(dead, moved * expected * 0.2, self.total))
        codes.copy_(moved)


class VQRun(Run):
    """Trains the autoencoder on rendered images."""

    name = "vq"
    exported: ClassVar = {"model": ""}
    lr = 2e-3
    ema_decay = 0.998
    betas = (0.9, 0.98)

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        self.size, self.tiny = size, tiny
        self.batch = batch or (16 if tiny else 24 if size <= SMALL else 128)
        self.composed = self.batch // 2 if size <= SMALL else 0
        """Rows of a batch that are laid together from the tokens of their parts."""
        self.config = vq_config(size, tiny)

    def build(self, device: torch.device) -> None:
        """Make the model, the codebook's statistics and the renderer."""
        self.device = device
        self.model = VQModel(**self.config).to(device, memory_format=torch.channels_last)
        embedding = self.model.quantize.embedding.weight.requires_grad_(False)
        embedding.normal_(std=0.5)
        self.codebook = MovingCodebook(*embedding.shape).to(device)
        self.renderer = Renderer(self.size, device=device)
        self.composition = Composition(self.renderer, CELLS)
        wanted = self.options.compile and device.type == "cuda"
        self.encode = compiled(self._encode, "vq: encoder", wanted)
        self.reconstruct = compiled(self._reconstruct, "vq: decoder", wanted)

    def started(self) -> None:
        """Begin the statistics of the codes as if each had been chosen equally often."""
        codes = self.model.quantize.embedding.weight
        usage = self.batch * GRID**2 / len(codes)
        self.codebook.usage.fill_(usage)
        self.codebook.total.copy_(codes * usage)

    def modules(self) -> dict[str, nn.Module]:
        """The model and the statistics of its codes."""
        return {"model": self.model, "codebook": self.codebook}

    def images(self, count: int, seed: int, split: Split = "train") -> Tensor:
        """Rendered images [count, 3, size, size] in [0, 1] on the run's device."""
        return self._pixels(self.renderer.images(sample_batch(count, seed, split=split, medium="image")))

    def _pixels(self, images: Tensor) -> Tensor:
        return (images.float() / 255).to(memory_format=torch.channels_last)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Squared and absolute error of the pixels and the commitment of the encoder to its codes."""
        scenes = sample_batch(self.batch, self.batch_seed(step), split="train", medium="image")
        composed, whole = snapped(scenes[: self.composed], CELLS), scenes[self.composed :]
        drawn, weights = zip(*(self._drawn(part) for part in (composed, whole)), strict=True)
        encoded = self.encode(drawn[1])
        if len(composed):
            encoded = torch.cat([self.composition.compose(composed, self._encode), encoded])
        measured = self.reconstruct(encoded, torch.cat(drawn), torch.cat(weights))
        latents, ids, squared, absolute, commitment, plain = measured
        self.batch_latents = latents.detach(), ids
        loss = squared / VARIANCE + 0.1 * absolute + 0.05 * commitment
        used = self.codebook.usage.gt(0.03 * len(ids) / len(self.codebook.usage)).float().mean()
        psnr = -10 * torch.log10(plain.detach())
        return loss, {"psnr": psnr, "commitment": commitment.detach(), "used": used}

    def _drawn(self, scenes: SceneBatch) -> tuple[Tensor, Tensor]:
        """Images [N, 3, S, S] and the weights [N, 1, S, S] of their pixels."""
        images = self.renderer.images(scenes)
        objects = self.renderer.object_pixels(scenes, images[:, None])
        return self._pixels(images), 1 + (OBJECT_WEIGHT - 1) * objects.float()

    def _encode(self, images: Tensor) -> Tensor:
        """Latents [N, D, H, W] of images, not yet replaced by codes."""
        latents: Tensor = self.model.quant_conv(self.model.encoder(images)).float()
        return latents

    def _reconstruct(self, encoded: Tensor, images: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        codes = self.model.quantize.embedding.weight
        ids = nearest_codes(encoded.detach(), codes)
        latents = encoded.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
        chosen = codes[ids]
        spread = codes.var(0).sum().clamp(min=1e-6)
        commitment = (latents - chosen).square().sum(1).mean() / spread
        straight_through = latents + (chosen - latents).detach()
        passed = straight_through.view(len(images), *encoded.shape[2:], -1).permute(0, 3, 1, 2)
        error = self.model.decoder(self.model.post_quant_conv(passed)).float() - images
        squared = error.square()
        return (
            latents,
            ids,
            (weights * squared).mean(),
            (weights * error.abs()).mean(),
            commitment,
            squared.mean(),
        )

    def after_step(self, step: int, generator: torch.Generator) -> None:
        """Move the codes."""
        latents, ids = self.batch_latents
        codes = self.model.quantize.embedding.weight
        self.codebook.update(codes, latents, ids, self.progress < RESEED_UNTIL, generator)

    def sheet(self, path: Path) -> None:
        """Held-out images over their reconstructions."""
        images = self.images(16, EVALUATION_SEED, "heldout")
        restored = decode_tokens(self.model, encode_tokens(self.model, images))
        rows = [part for pair in zip(images.split(8), restored.split(8), strict=True) for part in pair]
        save_grid(torch.cat(rows), path.with_suffix(".png"))

    def export(self, path: Path) -> None:
        """Write the model (float32) and `figures.json` measured on held-out images."""
        self.model.eval()
        figures = self.measure(64 if self.tiny else 512)
        print(f"{self.name}: {figures}", flush=True)
        self.model.to(memory_format=torch.contiguous_format).save_pretrained(path)
        (path / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")

    def measure(self, count: int) -> dict[str, float]:
        """Mean PSNR (dB, 8-bit images, held-out combinations) and the number of codes in use."""
        psnrs, seen = [], []
        for index in range(0, count, 64):
            images = self.images(min(64, count - index), EVALUATION_SEED + 1 + index, "heldout")
            ids = encode_tokens(self.model, images)
            restored = decode_tokens(self.model, ids).float().mul(255).round().div(255)
            psnrs.append(-10 * torch.log10((restored - images).square().mean((1, 2, 3))))
            seen.append(ids.flatten())
        used = len(torch.cat(seen).unique())
        return {"psnr": float(torch.cat(psnrs).mean()), "images": count, "codes": used}
