"""The parameters of ``video.understand``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from koma.models.manifest import Manifest
from koma.models.parameters import (
    ADVANCED,
    MAX_PROMPT,
    MAX_SEED,
    WORK,
    Parameters,
    Range,
    ZeroOr,
    fit,
    labelled,
)

MAX_NEW_TOKENS = 1024
MIN_TEMPERATURE = 0.01
"""Below it every token but the likeliest has no chance, until the logits divided by it are no numbers."""
MIN_TOP_P = 0.001
"""The likeliest token alone has more than that in any vocabulary that gives an answer."""


class UnderstandParams(Parameters):
    """What to ask about a video or an image, and how to answer."""

    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_PROMPT,
        description='The question or task; by default "Describe this video." or "Describe this image."',
    )
    max_new_tokens: int = Field(
        128,
        ge=1,
        le=MAX_NEW_TOKENS,
        description="Longest answer in tokens; it may end earlier.",
        json_schema_extra=ADVANCED | WORK,
    )
    temperature: Annotated[float, Field(ge=0, le=5), ZeroOr(MIN_TEMPERATURE)] = Field(
        0.0,
        description="Randomness of the answer; 0 always takes the likeliest token.",
        json_schema_extra=ADVANCED,
    )
    top_p: float = Field(
        1.0,
        ge=MIN_TOP_P,
        le=1,
        description="Draw from the likeliest tokens that have this probability together.",
        json_schema_extra=ADVANCED,
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Same seed, same answer, where temperature is above 0.",
        json_schema_extra=ADVANCED,
    )
    max_frames: int = Field(
        64, ge=1, description="Most frames that are read of a video.", json_schema_extra=ADVANCED | WORK
    )
    fps: float = Field(
        1.0,
        ge=0.001,
        le=60,
        description="Frames that are read of each second of a video.",
        json_schema_extra=ADVANCED | labelled("Frames per second"),
    )


def understand_params(max_frames: int, fps: float, context: int, manifest: Manifest) -> type[Parameters]:
    """Fit :class:`UnderstandParams` to a checkpoint.

    Args:
        max_frames: most frames that it was trained with.
        fps: frames a second that it was trained with.
        context: tokens that fit into its context.
        manifest: further defaults and maxima.
    """
    ranges = {
        "max_frames": Range(max_frames, minimum=1, maximum=max_frames),
        "max_new_tokens": Range(min(128, context // 2), minimum=1, maximum=min(MAX_NEW_TOKENS, context - 1)),
    }
    defaults = {"fps": float(fps), **manifest.defaults}
    return fit(UnderstandParams, ranges, manifest.model_copy(update={"defaults": defaults}))
