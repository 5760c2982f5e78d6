"""Video or image -> frame features, and the text around them in the prompt."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from koma.errors import KomaError
from koma.models.lru import Lru
from koma.models.media import image as images
from koma.models.media import video as videos
from koma.models.smolvlm2.parts import Parts
from koma.runtime.runner import InputFile, Request

FRAMES_AT_ONCE = 8
"""Frames of one forward of the vision tower: bounds memory, and large batches gain nothing."""


@dataclass(frozen=True)
class Sight:
    """What the model sees."""

    features: torch.Tensor
    """[image tokens, width of the language model]"""
    text: str
    """What stands for it in the prompt: one placeholder token for each feature, between marks and times."""
    kind: str
    """ "video" or "image" """
    meta: Mapping[str, Any]
    """Told beside the answer."""


@dataclass(frozen=True)
class Frames:
    """The frames that are taken from a video."""

    pixels: Any
    """As :func:`koma.models.media.video.frames` returns them"""
    metadata: Any
    """``VideoMetadata`` of transformers"""
    meta: Mapping[str, Any]


class Vision:
    """Looks at videos and images; what it saw last stays in memory, by digest and sampling."""

    def __init__(self, parts: Parts, kept: int = 8) -> None:
        self._parts = parts
        self._sights: Lru[Sight] = Lru(kept)

    def look(self, request: Request) -> Callable[[], Sight]:
        """Decode the input of ``request``; what is returned encodes it, unless it was seen before.

        Raises:
            KomaError: ``missing_field`` or ``invalid_request`` unless there is exactly one input; errors of
            the medium.
        """
        given = request.inputs
        if not given:
            raise KomaError("missing_field", "a video or an image is required", field="inputs.video")
        if len(given) > 1:
            raise KomaError("invalid_request", "a video or an image, not both", field="inputs", bound=1)
        [(name, file)] = given.items()
        if name == "image":
            return self._once(file.sha256, lambda: partial(self._image, images.read(file, "inputs.image")))
        max_frames, fps = request.params.max_frames, request.params.fps
        return self._once(
            (file.sha256, max_frames, fps), lambda: partial(self._video, self._frames(file, max_frames, fps))
        )

    def _once(self, key: Hashable, decode: Callable[[], Callable[[], Sight]]) -> Callable[[], Sight]:
        seen = self._sights.find(key)
        if seen is not None:
            return lambda: seen
        encode = decode()
        return lambda: self._sights.get(key, encode)

    def _image(self, picture: images.Picture) -> Sight:
        processor = self._parts.processor
        batch = processor.image_processor(
            images=[[picture.pixels]], do_image_splitting=False, return_row_col_info=True, return_tensors="pt"
        )
        text = processor.replace_image_token(batch, 0)
        meta = {"width": picture.pixels.width, "height": picture.pixels.height, **picture.meta}
        return Sight(self._features(batch), text, "image", meta)

    def _frames(self, file: InputFile, max_frames: int, fps: float) -> Frames:
        from transformers.video_utils import VideoMetadata

        found = videos.probe(file, "inputs.video")
        taken = found.timeline.choose(max_frames, fps)
        pixels = videos.frames(file, taken, "inputs.video", found)
        # The processor tells the model index / fps of each frame; here an index is a second.
        seconds = [found.timeline.time(index) for index in taken]
        metadata = VideoMetadata(
            total_num_frames=found.frames, fps=1.0, duration=found.seconds, frames_indices=seconds
        )
        meta = {"frames": len(taken), "of": found.frames, "seconds": round(found.seconds, 3)}
        return Frames(pixels, metadata, meta)

    def _video(self, frames: Frames) -> Sight:
        processor = self._parts.processor
        batch = processor.video_processor(videos=[frames.pixels], do_sample_frames=False, return_tensors="pt")
        batch["video_metadata"] = [frames.metadata]
        text = processor.replace_video_token(batch, 0)
        return Sight(self._features(batch), text, "video", frames.meta)

    @torch.inference_mode()
    def _features(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Features [tokens, width] of the frames of one video or image."""
        pixels, mask = batch["pixel_values"], batch["pixel_attention_mask"]
        encoded = []
        for start in range(0, pixels.shape[1], FRAMES_AT_ONCE):
            some = slice(start, start + FRAMES_AT_ONCE)
            output = self._parts.model.model.get_image_features(
                pixels[:, some].to(self._parts.device), mask[:, some].to(self._parts.device)
            )
            encoded += output.pooler_output
        return torch.cat(encoded)
