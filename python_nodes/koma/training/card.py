"""Model cards: what a checkpoint was trained on, how, for how long and how good it measured."""

from __future__ import annotations

from collections.abc import Mapping

from koma.training.export import command_line, device_name
from koma.training.loop import Result
from koma.training.world.catalogue import BACKGROUNDS, OBJECTS

TEMPLATE = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# aMUSEd, Emoji World, {size}×{size}

A small text-to-image model of the classes `UVit2DModel`, `VQModel` and `CLIPTextModelWithProjection`,
trained from scratch. It loads with the stock pipeline:

    from diffusers import AmusedPipeline
    pipeline = AmusedPipeline.from_pretrained("path/to/this/folder")
    pipeline("a cat at night", num_inference_steps={steps}, guidance_scale={guidance}).images[0]

| part | parameters |
|---|---:|
{counts}

Prompts are simple English captions: one or two of {objects} objects before one of {backgrounds} backgrounds
({background_names}). It knows nothing else.

## Data

Scenes of Emoji World, rendered from Noto Color Emoji (SIL Open Font License 1.1) with captions from a small
grammar, drawn anew during training. A tenth of the combinations of object and background is held out.{grid}

## Recipe

- VQ: 16×16 tokens, squared and absolute error, straight-through gradient, moving-average codebook with
  re-seeding of dead codes. {images:.0f} held-out images: {psnr:.1f} dB mean PSNR, {codes:.0f} codes in use.
- Transformer and text encoder together: tokens masked with a cosine ratio, cross-entropy on the masked ones,
  text dropped with a probability of 0.1 for guidance.
- Muon for matrices, AdamW for the rest, cosine learning rate, averaged weights, stored in float16.

## Run

    {command}

{trained} steps in {minutes:.1f} minutes on {device}; last loss {loss:.3f}.
"""

GRID = """
Objects lie on a grid of {cells}×{cells} cells, begin on every second one, and have the size that goes with
their number and motion. Each is encoded alone, in the middle of plain grey, and its tokens are laid on those
of the empty background."""


def amused_card(
    size: int,
    cells: int | None,
    counts: Mapping[str, int],
    vq_figures: Mapping[str, float],
    result: Result,
    defaults: Mapping[str, object],
) -> str:
    """The model card of an aMUSEd checkpoint, in Markdown."""
    recent = result.losses[-100:]
    return TEMPLATE.format(
        size=size,
        steps=defaults["steps"],
        guidance=defaults["guidance_scale"],
        counts="\n".join(f"| {name} | {count:,} |" for name, count in counts.items()),
        objects=len(OBJECTS),
        backgrounds=len(BACKGROUNDS),
        background_names=", ".join(BACKGROUNDS),
        grid=GRID.format(cells=cells) if cells else "",
        psnr=vq_figures["psnr"],
        codes=vq_figures["codes"],
        images=vq_figures["images"],
        command=command_line(),
        trained=result.steps,
        minutes=result.elapsed / 60,
        device=device_name(),
        loss=sum(recent) / len(recent) if recent else float("nan"),
    )
