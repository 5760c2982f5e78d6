"""The model card and the defaults that stand beside the exported SmolVLM2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import SmolVLMForConditionalGeneration

from koma.training.export import command_line, device_name, write_manifest
from koma.training.loop import Result
from koma.training.smolvlm2_model import MAX_NEW_TOKENS
from koma.training.world.catalogue import BACKGROUNDS, MOTIONS, OBJECTS

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# SmolVLM2, Emoji World, {size}×{size}

A small vision-language model of the class `SmolVLMForConditionalGeneration`, trained from scratch. It
loads with the stock classes:

    from transformers import AutoModelForImageTextToText, AutoProcessor
    processor = AutoProcessor.from_pretrained("path/to/this/folder")
    model = AutoModelForImageTextToText.from_pretrained("path/to/this/folder")

| part | parameters |
|---|---:|
{counts}

It describes clips and pictures of {objects} objects, one or two at a time, before {backgrounds}
backgrounds ({background_names}) and their motions ({motion_names}), and answers questions about them:
"What is it?", "Where is it going?", "Is this a red car?". It knows nothing else. The processor takes
{fps} frames a second of a clip and makes one tile of a picture; every word of the world is one token,
anything else falls back to bytes.

## Data

Clips and pictures of Emoji World, rendered from Noto Color Emoji (SIL Open Font License 1.1), lightly
damaged by noise, blur and changes of brightness, drawn anew during training, with captions and
questions from a small grammar. A tenth of the combinations of object, background and motion is held
out.

## Recipe

- Next-token cross-entropy on the answers only, in the chat format of the processor. {turns} dialogues
  about one clip share its frames: each turn attends to the frames and to itself.
- Three linear layers guide it: one tells of every patch which object it shows, one of the tokens of a
  frame where the objects are, one of the text model's states at the frames which way they move. Their
  loss fades out; they are not part of the checkpoint.{eyes}
- Most clips have 17 frames at 8 a second, seen in {frames} frames; the others vary in length, rate and
  number of frames.
- Muon for matrices, AdamW for the rest, cosine learning rate, averaged weights, stored in float16.

## Run

    {command}

{trained} steps in {minutes:.1f} minutes on {device}; last loss {loss:.3f}.
"""


EYES = """
- The first {share:.0%} of the steps train the eyes alone, on single frames."""


@dataclass(frozen=True)
class Recipe:
    """What differs between the sizes: frames a second and of a usual clip, turns, steps of the eyes alone."""

    size: int
    fps: int
    frames: int
    turns: int
    eyes_first: float


def write_card(model: SmolVLMForConditionalGeneration, recipe: Recipe, result: Result, path: Path) -> None:
    """Write README.md and koma.json, the defaults of the model node, into the folder of the checkpoint."""
    parts = {
        "vision encoder": model.model.vision_model,
        "connector": model.model.connector,
        "text model": model.model.text_model,
        "output layer": model.lm_head,
    }
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    recent = result.losses[-100:]
    card = CARD.format(
        size=recipe.size,
        fps=recipe.fps,
        frames=recipe.frames,
        turns=recipe.turns,
        eyes=EYES.format(share=recipe.eyes_first) if recipe.eyes_first else "",
        counts="\n".join(f"| {name} | {count:,} |" for name, count in counts.items()),
        objects=len(OBJECTS),
        backgrounds=len(BACKGROUNDS),
        background_names=", ".join(BACKGROUNDS),
        motion_names=", ".join(MOTIONS),
        command=command_line(),
        trained=result.steps,
        minutes=result.elapsed / 60,
        device=device_name(),
        loss=sum(recent) / len(recent) if recent else float("nan"),
    )
    (path / "README.md").write_text(card)
    write_manifest(path, recipe.size, {"max_new_tokens": MAX_NEW_TOKENS})
