"""Writes the trained LTX-Video as a pipeline folder with its model card."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import LTXPipeline

from koma.training.export import (
    command_line,
    device_name,
    forget_origins,
    pipeline_arguments,
    write_manifest,
)
from koma.training.loop import Result
from koma.training.ltx_parts import SHIFT, TEXT_TOKENS
from koma.training.ltx_vae import KL_WEIGHT, OBJECT_WEIGHT
from koma.training.world.catalogue import BACKGROUNDS, MOTIONS, OBJECTS

CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
---

# LTX-Video, Emoji World, {size}×{size}

A small text-to-video and image-to-video model of the classes `LTXVideoTransformer3DModel`,
`AutoencoderKLLTXVideo` and `T5EncoderModel`, trained from scratch. It loads with the stock pipelines:

    from diffusers import LTXPipeline
    pipeline = LTXPipeline.from_pretrained("path/to/this/folder")
    pipeline("a cat moving right at night", {call}).frames[0]

and as well with `LTXImageToVideoPipeline` (`image=…`). `frame_rate` must be {fps}: it scales the positions
in time, and the pipelines' own default of 25 was never trained.

| part | parameters |
|---|---:|
{counts}

Prompts are simple English captions: one or two of {objects} objects before one of {backgrounds} backgrounds
({background_names}), {motion_names}. It knows nothing else and skips words that it does not know.

## Data

Clips of Emoji World, rendered from Noto Color Emoji (SIL Open Font License 1.1) with captions from a small
grammar, drawn anew during training. A tenth of the combinations of object, background and motion is held
out.{grid}

## Recipe

- Autoencoder: 16-fold in space, 4-fold in time, {channels} channels, causal on both sides: frame 0 lies in
  the first latent frame alone. Absolute, squared and gradient error of the pixels, {weight:g} times as heavy
  where an object is, KL {kl:g}. {vae}
- Transformer and text encoder together: rectified flow (x = (1 − σ)·x₀ + σ·ε, target ε − x₀, timestep
  1000·σ), σ logit-normal shifted by {shift:g} with 15 % uniform. 10 % of the prompts are empty, for guidance.
  40 % of the clips keep a clean first latent frame (timestep 0 for its tokens), for image to video.
- Muon for matrices, AdamW for the rest, cosine learning rate, averaged weights, stored in float16.

## Run

    {command}

{trained} steps in {minutes:.1f} minutes on {device}; last loss {loss:.3f}.
"""

GRID = """ In
text-to-video clips objects begin where a latent vector does, have two or three sizes, and move by whole
{cells}ths of the frame."""


def export_pipeline(
    pipeline: LTXPipeline,
    path: Path,
    defaults: Mapping[str, Any],
    cells: int | None,
    vae_figures: Mapping[str, float],
    result: Result,
) -> None:
    """Write `pipeline` to `path` in float16 (safetensors) with its model card and default parameters."""
    halves = {name: _half(part) for name, part in pipeline.components.items()}
    LTXPipeline(**halves).save_pretrained(path)
    forget_origins(path)
    (path / "vae" / "figures.json").write_text(json.dumps(vae_figures, indent=1) + "\n")
    write_manifest(path, defaults["width"], defaults)
    (path / "README.md").write_text(_card(pipeline, defaults, cells, vae_figures, result))


def _half(part: object) -> object:
    return copy.deepcopy(part).half() if isinstance(part, torch.nn.Module) else part


def _card(
    pipeline: LTXPipeline,
    defaults: Mapping[str, Any],
    cells: int | None,
    vae_figures: Mapping[str, float],
    result: Result,
) -> str:
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    recent = result.losses[-100:]
    call = pipeline_arguments(defaults) | {"max_sequence_length": TEXT_TOKENS}
    return CARD.format(
        size=defaults["width"],
        call=", ".join(f"{name}={value}" for name, value in call.items()),
        fps=defaults["fps"],
        counts="\n".join(f"| {name} | {count:,} |" for name, count in counts.items()),
        objects=len(OBJECTS),
        backgrounds=len(BACKGROUNDS),
        background_names=", ".join(BACKGROUNDS),
        motion_names=", ".join(MOTIONS),
        channels=pipeline.vae.config.latent_channels,
        grid=GRID.format(cells=cells) if cells else "",
        vae=_autoencoder_figures(vae_figures),
        kl=KL_WEIGHT,
        weight=OBJECT_WEIGHT,
        shift=SHIFT,
        command=command_line(),
        trained=result.steps,
        minutes=result.elapsed / 60,
        device=device_name(),
        loss=sum(recent) / len(recent) if recent else float("nan"),
    )


def _autoencoder_figures(figures: Mapping[str, float]) -> str:
    if not figures:
        return ""
    return (
        f"{figures['steps']:.0f} steps in {figures['minutes']:.1f} minutes;\n"
        f"  {figures['clips']:.0f} held-out clips: {figures['psnr']:.1f} dB mean PSNR, "
        f"first frames {figures['first_frame_psnr']:.1f} dB."
    )
