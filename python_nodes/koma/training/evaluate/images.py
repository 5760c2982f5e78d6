"""aMUSEd: its autoencoder's fidelity, and what the judge sees in its pictures, through the stock pipeline."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from koma.training.evaluate.context import Context, prompts, psnr
from koma.training.evaluate.figures import Figure, mean, share
from koma.training.evaluate.worst import image_sheet
from koma.training.world.judge import Verdict
from koma.training.world.scene import SceneBatch, Split

DEFAULTS = {"num_inference_steps": 12, "guidance_scale": 3.0}
FEW_STEPS = 4


class Painter:
    """The stock pipeline with the checkpoint's own defaults, painting in batches."""

    def __init__(self, context: Context) -> None:
        from diffusers import AmusedPipeline

        path = context.checkpoints / "amused"
        pipeline: Any = AmusedPipeline.from_pretrained(path, torch_dtype=torch.float32)
        self.pipeline = pipeline.to(context.device)
        self.pipeline.set_progress_bar_config(disable=True)
        known = ("num_inference_steps", "guidance_scale", "temperature")
        self.defaults = DEFAULTS | context.defaults("amused", *known)
        self.context = context

    def paint(self, texts: list[str], seed: int, **changes: Any) -> Tensor:
        """Return one picture per text: uint8 `[N, 3, H, W]` on the CPU."""
        parts = []
        for start in range(0, len(texts), self.context.batch):
            generator = self.context.generator(seed + start)
            call = self.defaults | changes
            piece = texts[start : start + self.context.batch]
            made = self.pipeline(piece, generator=generator, output_type="pt", **call).images
            parts.append((made.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode uint8 pictures to tokens and decode them: float `[N, 3, H, W]` in [0, 1]."""
        vqvae = self.pipeline.vqvae
        latents = vqvae.encode(images.float() / 255).latents
        grid = latents.shape[-2:]
        tokens = vqvae.quantize(latents)[2][2].reshape(len(images), *grid)
        shape = (len(images), *grid, vqvae.config.latent_channels)
        decoded: Tensor = vqvae.decode(tokens, force_not_quantize=True, shape=shape).sample
        return decoded


def measure_images(context: Context) -> list[Figure]:
    """Measure reconstruction, generation at default and few steps, and held-out combinations."""
    painter = Painter(context)
    scenes = context.scenes(11, "any", "image")
    values: list[float] = []
    for _, batch in context.batches(scenes):
        truth = context.renderer.images(batch)
        values += psnr(painter.reconstruct(truth), truth)
    figures = [mean("VQ reconstruction", values, "dB", 28, 34)]
    steps = painter.defaults["num_inference_steps"]
    objects, places = _generate(context, painter, "any", steps, 12)
    few, _ = _generate(context, painter, "any", FEW_STEPS, 12)
    composed = [a and b for a, b in zip(*_generate(context, painter, "heldout", steps, 13), strict=True)]
    return [
        *figures,
        share(f"aMUSEd: object recognised, {steps} steps", objects, 65, 95),
        share(f"aMUSEd: background recognised, {steps} steps", places, 95, 99),
        share(f"aMUSEd: object recognised, {FEW_STEPS} steps", few),
        share("aMUSEd, held-out combinations: object and background", composed),
    ]


def _generate(
    context: Context, painter: Painter, split: Split, steps: int, part: int
) -> tuple[list[bool], list[bool]]:
    """Paint one picture per scene; return whether objects and background were recognised."""
    scenes = context.scenes(part, split, "image")
    texts = prompts(scenes, "image", part)
    images = painter.paint(texts, part * 10_000, num_inference_steps=steps)
    objects, places, scores = judge_images(context, images, scenes)
    worst = sorted(range(len(scenes)), key=lambda row: scores[row])
    name = f"amused-{split}-{steps}-steps"
    image_sheet(context, name, images, worst, [texts[row] for row in worst])
    return objects, places


@torch.no_grad()
def judge_images(
    context: Context, images: Tensor, scenes: SceneBatch
) -> tuple[list[bool], list[bool], list[float]]:
    """Return whether the judge sees the scene's objects and its background, and its object scores."""
    objects: list[bool] = []
    places: list[bool] = []
    scores: list[float] = []
    for rows, batch in context.batches(scenes):
        verdict = context.judge.look(images[rows].to(context.device))
        objects += objects_seen(verdict, batch)
        places += (verdict.background.argmax(-1).cpu() == torch.from_numpy(batch.background)).tolist()
        scores += object_scores(verdict, batch)
    return objects, places, scores


def objects_seen(verdict: Verdict, scenes: SceneBatch) -> list[bool]:
    """Tell whether the likeliest objects, as many as the scene has, are the scene's."""
    found = verdict.kinds(torch.from_numpy(scenes.count))
    return [seen == set(scene.kinds) for seen, scene in zip(found, scenes.scenes(), strict=True)]


def object_scores(verdict: Verdict, scenes: SceneBatch) -> list[float]:
    """Return the least score of an object that should be there."""
    rows = verdict.objects.tolist()
    return [min(row[kind] for kind in scene.kinds) for row, scene in zip(rows, scenes.scenes(), strict=True)]
