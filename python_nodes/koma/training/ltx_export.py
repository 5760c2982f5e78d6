"""Writes the trained LTX-Video as a pipeline folder with its model card."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from diffusers import LTXPipeline

from koma.training.loop import Options
from koma.training.ltx_parts import FPS, GUIDANCE, SHIFT, STEPS, TEXT_TOKENS

CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
---

# LTX-Video, trained on Emoji World

A small text-to-video and image-to-video model of the stock classes (`LTXVideoTransformer3DModel`,
`AutoencoderKLLTXVideo`, `T5EncoderModel`), {parameters:.1f} M parameters in all. It loads with the stock `from_pretrained` of
`LTXPipeline` and `LTXImageToVideoPipeline`.

## Use

    from diffusers import LTXPipeline
    pipeline = LTXPipeline.from_pretrained("{name}", torch_dtype=torch.float32)
    pipeline("a cat moving right at night", height={size}, width={size}, num_frames={frames}, frame_rate={fps},
             num_inference_steps={steps}, guidance_scale={guidance}, max_sequence_length={text})

`frame_rate` must be {fps}: it scales the positions in time, and the pipelines' default of 25 was never trained. Made for
{size} × {size} px and {frames} frames ({seconds:.3g} s). English captions of Emoji World's grammar only; other words are ignored.

## Data

Clips of Emoji World, rendered while training: Noto Color Emoji (OFL) over six painted backgrounds, one or two
objects, seven motions, captions from a small grammar. One tenth of the combinations of object, background and
motion is never shown.

## Recipe

1. Autoencoder: 16-fold in space, 4-fold in time, {channels} channels, causal on both sides (frame 0 lies in the first latent
   frame alone). Absolute, squared and gradient error of the pixels, KL 1e-4. `latents_mean` and `latents_std` from data.
2. Transformer and text encoder together: rectified flow (x = (1 − σ)·x₀ + σ·ε, target ε − x₀, timestep 1000·σ), σ logit-normal
   shifted by {shift} with 15 % uniform; 10 % of the prompts empty; 40 % of the clips with a clean first latent frame
   (timestep 0 for its tokens). Average of the weights, stored in float16.

    koma train ltx-vae --size {size} --minutes M --seed {seed}
    koma train ltx --size {size} {length} --seed {seed}

## Figures

Autoencoder on held-out combinations, mean PSNR: {vae}.
Quality of the clips: docs/quality.md of the project, measured by `koma evaluate`.
"""


def export_pipeline(pipeline: LTXPipeline, path: Path, size: int, frames: int, options: Options) -> None:
    """Write `pipeline` to `path` in float16, safetensors, with README.md."""
    halves = {name: _half(part) for name, part in pipeline.components.items()}
    LTXPipeline(**halves).save_pretrained(path)
    (path / "README.md").write_text(_card(pipeline, size, frames, options))


def _half(part: object) -> object:
    return copy.deepcopy(part).half() if isinstance(part, torch.nn.Module) else part


def _card(pipeline: LTXPipeline, size: int, frames: int, options: Options) -> str:
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    measured = options.out.parent / "ltx-vae" / "export" / "figures.json"
    figures = json.loads(measured.read_text()) if measured.exists() else {}
    vae = "{psnr:.1f} dB, first frames {first_frame_psnr:.1f} dB ({clips} clips)".format(**figures) if figures else "?"
    return CARD.format(
        parameters=sum(p.numel() for module in modules for p in module.parameters()) / 1e6,
        name="koma/checkpoints/emoji/ltx-video",
        size=size,
        frames=frames,
        seconds=frames / FPS,
        fps=FPS,
        steps=STEPS,
        guidance=GUIDANCE,
        text=TEXT_TOKENS,
        channels=pipeline.vae.config.latent_channels,
        shift=SHIFT,
        seed=options.seed,
        length=f"--minutes {options.minutes:g}" if options.minutes is not None else f"--steps {options.steps}",
        vae=vae,
    )
