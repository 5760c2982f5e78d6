"""The phases of aMUSEd, wired for the engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

from koma.models import prompts
from koma.models.amused import decode, encode, parts, step
from koma.models.amused.encode import ImageState
from koma.models.amused.family import FAMILY
from koma.models.amused.params import image_params
from koma.models.loading import Opened, open_checkpoint
from koma.models.media import encode as media
from koma.models.seeds import row_seeds
from koma.runtime.runner import Output, Preview, Request, Runner, State, TaskSpec

TASK = "image.generate"


class AmusedRunner:
    """Paints images; see :class:`koma.runtime.runner.Runner` for the phases."""

    preparers = 1

    def __init__(self, modules: parts.Parts, opened: Opened) -> None:
        self.loaded = opened.loaded
        self._parts = modules
        self._encoder = encode.Encoder(modules)
        self._encoder.text("")
        params = image_params(modules.native_side, modules.multiple, opened.manifest)
        self.tasks: Mapping[str, TaskSpec] = {
            TASK: TaskSpec(
                params,
                {},
                {"image": "image/png"},
                steps=lambda checked: checked.steps,
                count=lambda given: self._encoder.counter.told(prompts.texts(given)),
            )
        }

    def prepare(self, request: Request) -> ImageState:
        """Encode the prompts and mask every token."""
        return encode.start(request, self._parts, self._encoder)

    def key(self, state: State) -> Hashable:
        """Jobs of one token grid share a forward: the U-ViT normalises over the grid, so it cannot be
        padded."""
        return tuple(cast(ImageState, state).tokens.shape[1:])

    def step(self, states: Sequence[State]) -> None:
        """One forward for the rows of all ``states``."""
        step.step(self._parts, cast(Sequence[ImageState], states))

    def text(self, state: State) -> str:
        """aMUSEd makes no text."""
        return ""

    def preview(self, state: State) -> Callable[[], Preview] | None:
        """The guess of the first image; steps make new tensors, so that it may be decoded later."""
        guess = cast(ImageState, state).guess
        if guess is None:
            return None
        return lambda: media.preview(decode.pixels(self._parts, guess[:1])[0])

    def finish(self, state: State) -> list[Output]:
        """Decode the images and write them: ``image``, ``image_2``, ..."""
        painted = cast(ImageState, state)
        images = decode.pixels(self._parts, painted.tokens)
        media_type = f"image/{painted.request.params.output_format}"
        paths = media.write_pictures(painted.request.folder(), list(images), media_type)
        seeds = row_seeds(painted.seed, len(images))
        return [
            Output(
                name="image" if number == 1 else f"image_{number}",
                media_type=media_type,
                path=path,
                meta={
                    "width": image.shape[1],
                    "height": image.shape[0],
                    "seed": seed,
                    "steps": painted.total,
                    **prompts.meta(painted.prompts),
                },
            )
            for number, (image, path, seed) in enumerate(zip(images, paths, seeds, strict=True), start=1)
        ]


def load(checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]) -> Runner:
    """Load an aMUSEd checkpoint; the arguments are those of :func:`koma.models.loading.open_checkpoint`.

    ``slots`` is the engine's business: nothing is laid out here for jobs that may come.
    """
    opened = open_checkpoint(FAMILY, checkpoint, device, dtype, options)
    return AmusedRunner(parts.load(opened.folder, opened.placement), opened)
