"""The phases of LTX-Video, wired for the engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

from koma.models import prompts
from koma.models.loading import Opened, open_checkpoint
from koma.models.ltx_video import decode, encode, parts, step
from koma.models.ltx_video.encode import VideoState
from koma.models.ltx_video.family import FAMILY
from koma.models.ltx_video.params import video_params
from koma.models.media import encode as media
from koma.models.media.sniff import IMAGE_TYPES
from koma.runtime.runner import InputSpec, Output, Preview, Request, Runner, State, TaskSpec

TASK = "video.generate"
_FIRST_IMAGE = InputSpec(
    IMAGE_TYPES, "The first frame of the video; it is cut to the video's aspect and resized."
)


class LtxVideoRunner:
    """Makes videos; see :class:`koma.runtime.runner.Runner` for the phases."""

    preparers = 1

    def __init__(self, modules: parts.Parts, opened: Opened) -> None:
        self.loaded = opened.loaded
        self._parts = modules
        self._encoder = encode.Encoder(modules)
        self._encoder.text("")
        params = video_params(modules.multiple, modules.temporal, opened.manifest)
        inputs, outputs = {"image": _FIRST_IMAGE}, {"video": "video/mp4"}
        self.tasks: Mapping[str, TaskSpec] = {
            TASK: TaskSpec(
                params,
                inputs,
                outputs,
                steps=lambda checked: checked.steps,
                count=lambda given: self._encoder.counter.told(prompts.texts(given)),
            )
        }

    def prepare(self, request: Request) -> VideoState:
        """Encode the prompts and the first image; draw the noise."""
        return encode.start(request, self._parts, self._encoder)

    def key(self, state: State) -> Hashable:
        """Jobs of as many tokens share a forward; shape, frame rate, first image and guidance may differ."""
        return cast(VideoState, state).grid.tokens

    def step(self, states: Sequence[State]) -> None:
        """One forward for the rows of all ``states``."""
        step.step(self._parts, cast(Sequence[VideoState], states))

    def text(self, state: State) -> str:
        """LTX-Video makes no text."""
        return ""

    def preview(self, state: State) -> Callable[[], Preview] | None:
        """The middle frame of the guess; steps make new tensors, so that it may be decoded later."""
        guess, grid = cast(VideoState, state).guess, cast(VideoState, state).grid
        if guess is None:
            return None
        return lambda: media.preview(decode.middle_frame(self._parts, guess, grid))

    def finish(self, state: State) -> list[Output]:
        """Decode the video and write it as MP4."""
        filmed = cast(VideoState, state)
        frames = decode.frames(self._parts, filmed)
        fps = filmed.request.params.fps
        meta = {
            "width": frames.shape[2],
            "height": frames.shape[1],
            "frames": len(frames),
            "fps": fps,
            "seed": filmed.seed,
            "steps": filmed.total,
            **prompts.meta(filmed.prompts),
        }
        if filmed.first:
            meta["image"] = dict(filmed.first)
        folder = filmed.request.folder()
        outputs = [Output("video", "video/mp4", path=media.write_mp4(folder, frames, fps), meta=meta)]
        if filmed.request.params.thumbnail:
            middle = media.write_picture(folder, frames[len(frames) // 2], "image/jpeg")
            outputs.append(Output("thumbnail", "image/jpeg", path=middle, meta=meta))
        return outputs


def load(checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]) -> Runner:
    """Load an LTX-Video checkpoint; the arguments are those of :func:`koma.models.loading.open_checkpoint`.

    ``slots`` is the engine's business: nothing is laid out here for jobs that may come.
    """
    opened = open_checkpoint(FAMILY, checkpoint, device, dtype, options)
    return LtxVideoRunner(parts.load(opened.folder, opened.placement, opened.manifest.settings), opened)
