"""The parameters of ``image.generate``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from koma.models.manifest import Manifest
from koma.models.parameters import ADVANCED, MAX_PROMPT, MAX_SEED, WORK, Parameters, Range, fit, labelled


class ImageParams(Parameters):
    """What to paint and how. Sizes, their bounds and some defaults are those of the loaded checkpoint."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What the image shows.")
    negative_prompt: str = Field(
        "",
        max_length=MAX_PROMPT,
        description="What it should not show; used when guidance_scale is above 1.",
        json_schema_extra=ADVANCED,
    )
    steps: int = Field(
        12,
        ge=1,
        le=64,
        description="Forward passes; each one fixes more of the image's tokens.",
        json_schema_extra=WORK,
    )
    guidance_scale: float = Field(
        10.0,
        ge=0,
        le=30,
        description="How strongly the prompt is followed; 1 or less turns guidance off.",
        json_schema_extra=ADVANCED,
    )
    temperature: float = Field(
        2.0,
        ge=0,
        le=10,
        description="Randomness of the order in which tokens are fixed; it falls to 0 at the end.",
        json_schema_extra=ADVANCED,
    )
    width: int = Field(256, description="Width in pixels.", json_schema_extra=WORK)
    height: int = Field(256, description="Height in pixels.", json_schema_extra=WORK)
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Same seed, same image. Image k of a job has the seed of the job plus k - 1.",
        json_schema_extra=ADVANCED,
    )
    n: int = Field(
        1, ge=1, le=8, description="Number of images.", json_schema_extra=WORK | labelled("Images")
    )
    output_format: Literal["png", "jpeg", "webp"] = Field(
        "png",
        description="Type of the files. PNG keeps every pixel; the others are smaller.",
        json_schema_extra=ADVANCED | labelled("File type"),
    )


def image_params(native: int, multiple: int, manifest: Manifest) -> type[Parameters]:
    """Fit :class:`ImageParams` to a checkpoint.

    Args:
        native: side in pixels that it was trained at; up to twice as much is accepted.
        multiple: sides must be multiples of this (pixels of a token, twice that where the U-ViT halves its
        grid).
        manifest: further defaults and maxima.
    """
    side = Range(native, minimum=multiple, maximum=2 * native, multiple_of=multiple)
    return fit(ImageParams, {"width": side, "height": side}, manifest)
