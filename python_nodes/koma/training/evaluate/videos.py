"""LTX-Video: its autoencoder's fidelity and what the judge sees in its clips, through the stock pipelines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from koma.training.evaluate.context import FPS, FRAMES, Context, prompts, psnr
from koma.training.evaluate.figures import Figure, mean, share
from koma.training.evaluate.images import object_scores, objects_seen
from koma.training.evaluate.worst import clip_sheet
from koma.training.world.scene import SceneBatch

DEFAULTS = {"num_inference_steps": 30, "guidance_scale": 3.0, "max_sequence_length": 32}


class Director:
    """The stock text-to-video and image-to-video pipelines with the checkpoint's defaults, in batches."""

    def __init__(self, context: Context) -> None:
        from diffusers import LTXImageToVideoPipeline, LTXPipeline

        path = context.checkpoints / "ltx-video"
        pipeline: Any = LTXPipeline.from_pretrained(path, torch_dtype=torch.float32)
        self.from_text = pipeline.to(context.device)
        self.from_image: Any = LTXImageToVideoPipeline(**self.from_text.components)
        for made in (self.from_text, self.from_image):
            made.set_progress_bar_config(disable=True)
        stored = context.defaults("ltx-video", "num_inference_steps", "guidance_scale")
        size = {"height": context.size, "width": context.size, "num_frames": FRAMES, "frame_rate": FPS}
        self.call = DEFAULTS | stored | size | {"output_type": "pt"}
        self.context = context

    def film(self, texts: list[str], seed: int, images: Tensor | None = None) -> Tensor:
        """Return one clip per text, from uint8 first frames if given: uint8 `[N, F, 3, H, W]` on the CPU."""
        parts = []
        for start in range(0, len(texts), self.context.batch):
            rows = slice(start, start + self.context.batch)
            call: dict[str, Any] = self.call | {"generator": self.context.generator(seed + start)}
            if images is None:
                made = self.from_text(prompt=texts[rows], **call).frames
            else:
                first = images[rows].to(self.context.device).float() / 255
                made = self.from_image(image=first, prompt=texts[rows], **call).frames
            parts.append((made.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def reconstruct(self, clips: Tensor) -> Tensor:
        """Encode uint8 clips and decode them: float `[N, F, 3, H, W]` in [0, 1]."""
        vae = self.from_text.vae
        latents = vae.encode((clips.float() / 127.5 - 1).transpose(1, 2)).latent_dist.mode()
        decoded: Tensor = vae.decode(latents, temb=self._decode_time(len(clips))).sample
        return decoded.transpose(1, 2) / 2 + 0.5

    def _decode_time(self, count: int) -> Tensor | None:
        if not self.from_text.vae.config.timestep_conditioning:
            return None
        return torch.zeros(count, device=self.context.device)


def measure_videos(context: Context) -> list[Figure]:
    """Measure reconstruction, clips from text, held-out combinations and clips from a first frame."""
    director = Director(context)
    scenes = context.scenes(21, "any", "clip", min(context.samples, 200))
    values: list[float] = []
    for _, batch in context.batches(scenes):
        truth = context.renderer.clips(batch)
        values += psnr(director.reconstruct(truth), truth)
    figures = [mean("LTX-Video autoencoder reconstruction", values, "dB")]
    objects, motions, _ = _from_text(context, director, 22, heldout=False)
    composed = list(zip(*_from_text(context, director, 23, heldout=True), strict=True))
    return [
        *figures,
        share("LTX-Video: object recognised", objects, 50, 90),
        share("LTX-Video: motion recognised", motions, 70, 95),
        share("LTX-Video, held-out combinations: object, motion and background", list(map(all, composed))),
        *_from_first_frame(context, director),
    ]


def _from_text(
    context: Context, director: Director, part: int, heldout: bool
) -> tuple[list[bool], list[bool], list[bool]]:
    scenes = context.scenes(part, "heldout" if heldout else "any", "clip")
    texts = prompts(scenes, "clip", part)
    clips = director.film(texts, part * 10_000)
    objects, motions, places, scores = judge_clips(context, clips, scenes)
    worst = sorted(range(len(scenes)), key=lambda row: (motions[row], scores[row]))
    clip_sheet(
        context, f"ltx-video-{'heldout' if heldout else 'text'}", clips, worst, [texts[row] for row in worst]
    )
    return objects, motions, places


def _from_first_frame(context: Context, director: Director) -> list[Figure]:
    scenes = context.scenes(24, "any", "clip")
    texts = prompts(scenes, "clip", 24)
    images = torch.cat([context.renderer.images(batch).cpu() for _, batch in context.batches(scenes)])
    clips = director.film(texts, 240_000, images)
    kept = psnr(clips[:, 0], images)
    objects, motions, _, scores = judge_clips(context, clips, scenes)
    worst = sorted(range(len(scenes)), key=lambda row: (motions[row], scores[row]))
    clip_sheet(context, "ltx-video-image", clips, worst, [texts[row] for row in worst])
    return [
        mean("image→video: first frame kept", kept, "dB", 22, 28),
        share("image→video: object recognised", objects),
        share("image→video: motion recognised", motions),
    ]


@torch.no_grad()
def judge_clips(
    context: Context, clips: Tensor, scenes: SceneBatch
) -> tuple[list[bool], list[bool], list[bool], list[float]]:
    """Return whether the judge sees objects, motion and background of the scene, and its object scores."""
    objects: list[bool] = []
    motions: list[bool] = []
    places: list[bool] = []
    scores: list[float] = []
    for rows, batch in context.batches(scenes):
        verdict = context.judge.watch(clips[rows].to(context.device))
        assert verdict.motion is not None
        objects += objects_seen(verdict, batch)
        motions += (verdict.motion.argmax(-1).cpu() == torch.from_numpy(batch.motion)).tolist()
        places += (verdict.background.argmax(-1).cpu() == torch.from_numpy(batch.background)).tolist()
        scores += object_scores(verdict, batch)
    return objects, motions, places, scores
