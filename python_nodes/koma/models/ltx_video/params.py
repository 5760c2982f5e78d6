"""The parameters of ``video.generate``."""

from __future__ import annotations

from pydantic import Field

from koma.models.manifest import Manifest
from koma.models.parameters import ADVANCED, MAX_PROMPT, MAX_SEED, WORK, Parameters, Range, fit, labelled

MAX_SIDE = 1280
MAX_FRAMES = 257
"""The makers of LTX-Video recommend to stay under 720 x 1280 and 257 frames."""
STOCK = {"width": 704, "height": 512, "frames": 161}
"""Defaults of the stock pipeline, for checkpoints without ``koma.json``."""


class VideoParams(Parameters):
    """What to film and how. Sizes, numbers of frames and some defaults are those of the loaded checkpoint."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What the video shows.")
    negative_prompt: str = Field(
        "",
        max_length=MAX_PROMPT,
        description="What it should not show; used when guidance_scale is above 1.",
        json_schema_extra=ADVANCED,
    )
    frames: int = Field(
        161, description="Number of frames: whole latent frames and the first one.", json_schema_extra=WORK
    )
    width: int = Field(704, description="Width in pixels.", json_schema_extra=WORK)
    height: int = Field(512, description="Height in pixels.", json_schema_extra=WORK)
    fps: int = Field(
        25,
        ge=1,
        le=60,
        description="Frames a second, of the motion and of the file.",
        json_schema_extra=ADVANCED | labelled("Frames per second"),
    )
    steps: int = Field(
        50, ge=1, le=100, description="Forward passes from noise to video.", json_schema_extra=WORK
    )
    guidance_scale: float = Field(
        3.0,
        ge=0,
        le=20,
        description="How strongly the prompt is followed; 1 or less turns guidance off.",
        json_schema_extra=ADVANCED,
    )
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="Same seed, same video.", json_schema_extra=ADVANCED
    )
    thumbnail: bool = Field(
        False, description="Also make a picture of the middle of the video.", json_schema_extra=ADVANCED
    )


def video_params(spatial: int, temporal: int, manifest: Manifest) -> type[Parameters]:
    """Fit :class:`VideoParams` to a checkpoint.

    A checkpoint that names its own sizes does at most twice as much: far beyond what it was trained on,
    nothing good comes of the long wait.

    Args:
        spatial: sides must be multiples of this many pixels.
        temporal: frames of one latent frame; the first frame has a latent frame of its own.
        manifest: defaults and maxima.
    """
    counts = range(1 + temporal, _largest("frames", MAX_FRAMES, manifest) + 1, temporal)
    ranges = {
        name: Range(
            STOCK[name], minimum=spatial, maximum=_largest(name, MAX_SIDE, manifest), multiple_of=spatial
        )
        for name in ("width", "height")
    }
    ranges["frames"] = Range(max(count for count in counts if count <= STOCK["frames"]), choices=counts)
    return fit(VideoParams, ranges, manifest)


def _largest(name: str, otherwise: int, manifest: Manifest) -> int:
    native = manifest.defaults.get(name)
    return 2 * native if isinstance(native, int) else otherwise
