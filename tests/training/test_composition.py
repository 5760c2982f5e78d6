"""Guarantees of scenes that are laid together from the tokens of their parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from koma.training.composition import GREY, Composition
from koma.training.world.render import Renderer
from koma.training.world.scene import CELLS, Medium, SceneBatch, sample_batch, snapped

TOKEN = 4
SIZE = 64


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(SIZE)


def _scenes(count: int, seed: int, objects: tuple[int, ...] = (1, 2), medium: Medium = "image") -> SceneBatch:
    return snapped(sample_batch(count, seed, objects=objects, medium=medium), CELLS)


def _patches(images: Tensor) -> Tensor:
    """Pixels as "tokens": one vector for each square of 4 × 4 px."""
    return functional.pixel_unshuffle(images, TOKEN)


def test_parts_lie_where_the_scene_shows_them_and_the_background_is_untouched(renderer: Renderer) -> None:
    scenes = _scenes(64, 1)
    laid = functional.pixel_shuffle(Composition(renderer, CELLS).compose(scenes, _patches), TOKEN)
    real = renderer.images(scenes).float() / 255
    off = (laid - real).abs().amax(1)
    shown = renderer.object_pixels(scenes, renderer.images(scenes)[:, None])[:, 0]
    near = functional.max_pool2d(shown.float(), TOKEN, ceil_mode=True).repeat_interleave(TOKEN, -1)
    near = near.repeat_interleave(TOKEN, -2).bool()
    assert off[~near].max() == 0, "outside the tokens of objects it is the empty background"
    grey = (laid - GREY / 255).abs().amax(1) < 0.3
    opaque = shown & ~grey
    assert (off[opaque] < 2 / 255).float().mean() > 0.6, "inside objects nearly all pixels are the scene's"


def test_one_object_of_one_size_has_the_same_tokens_on_every_background_and_at_every_place(
    renderer: Renderer,
) -> None:
    scenes = _scenes(400, 2, objects=(1,))
    composition = Composition(renderer, CELLS)
    nothing = composition.compose(scenes, lambda images: _patches(images).mean(1, keepdim=True).mul(0))
    assert nothing.shape == (400, 1, SIZE // TOKEN, SIZE // TOKEN)
    laid = composition.compose(scenes, _patches)
    empty = _patches(renderer.grounds(scenes).float() / 255)
    found: dict[tuple[int, int, bool], Tensor] = {}
    for row, scene in enumerate(scenes.scenes()):
        item = scene.objects[0]
        side = round(item.scale * CELLS) * 2
        top, left = (round((at - item.scale / 2) * CELLS) * 2 for at in (item.y, item.x))
        crop = (slice(None), slice(top, top + side), slice(left, left + side))
        own = (laid[row][crop] != empty[row][crop]).any(0)
        pattern = laid[row][crop] * own
        key = (item.kind, side, item.flip)
        known = found.setdefault(key, pattern)
        both = (known != 0).any(0) & own
        assert torch.equal(pattern[:, both], known[:, both])
    assert len(found) < 350, "objects came back"


def test_each_part_is_encoded_once(renderer: Renderer) -> None:
    scenes = _scenes(300, 3)
    encoded: list[int] = []

    def counting(images: Tensor) -> Tensor:
        encoded.append(len(images))
        return _patches(images)

    Composition(renderer, CELLS).compose(scenes, counting)
    items = {
        (item.kind, round(item.scale * CELLS), item.flip)
        for scene in scenes.scenes()
        for item in scene.objects
    }
    assert encoded == [len(renderer.backgrounds) + len(items)]
