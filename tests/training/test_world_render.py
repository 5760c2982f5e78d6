"""The renderer: exact, even, fast enough to feed a training run."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from koma.training.world import sprites
from koma.training.world.backgrounds import paint_backgrounds
from koma.training.world.catalogue import OBJECTS, RIGHT
from koma.training.world.render import Renderer
from koma.training.world.scene import Scene, SceneObject, batch_of, sample_batch


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    torch.set_num_threads(1)
    return Renderer(64, frames=9)


def test_clips_and_images_have_the_promised_shapes(renderer: Renderer) -> None:
    batch = sample_batch(5, 1)
    assert renderer.clips(batch).shape == (5, 9, 3, 64, 64)
    assert renderer.images(batch).dtype == torch.uint8
    assert renderer.clips(batch[:0]).shape == (0, 9, 3, 64, 64)


def test_the_same_scene_looks_the_same_alone_and_in_a_batch(renderer: Renderer) -> None:
    batch = sample_batch(12, 2)
    clips = renderer.clips(batch)
    for row in range(len(batch)):
        alone = renderer.clips(batch[row : row + 1])[0]
        assert (alone.int() - clips[row].int()).abs().max() <= 1


def test_an_image_is_the_frame_of_its_clip(renderer: Renderer) -> None:
    batch = sample_batch(6, 3)
    clips = renderer.clips(batch)
    for frame in (0, 4, -1):
        assert (renderer.images(batch, frame).int() - clips[:, frame].int()).abs().max() <= 1


def test_an_object_is_drawn_where_the_scene_says(renderer: Renderer) -> None:
    scene = Scene(2, (SceneObject(0, 0.3, 0.6, 0.4, 0.7, 0.6, 0.4, RIGHT, True),))
    clip = renderer.clips(batch_of([scene]))[0].float()
    ground = torch.from_numpy(paint_backgrounds(64)[2])
    for frame, x in ((0, 0.3), (-1, 0.7)):
        changed = ((clip[frame] - ground).abs().amax(0) > 12).nonzero().float() + 0.5
        low, high = changed.amin(0) / 64, changed.amax(0) / 64
        assert ((low + high) / 2)[1].item() == pytest.approx(x, abs=0.02)
        assert (high - low).max().item() == pytest.approx(0.4, abs=0.03)


def test_outside_of_the_object_the_background_is_untouched(renderer: Renderer) -> None:
    scene = Scene(0, (SceneObject(3, 0.25, 0.25, 0.3, 0.25, 0.25, 0.3, 6, False),))
    clip = renderer.clips(batch_of([scene]))[0].float()
    ground = torch.from_numpy(paint_backgrounds(64)[0])
    assert (clip[:, :, 32:, 32:] - ground[:, 32:, 32:]).abs().max() <= 0.51


def test_a_mirrored_object_is_the_mirror_image(renderer: Renderer) -> None:
    def draw(flip: bool) -> torch.Tensor:
        scene = Scene(0, (SceneObject(2, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 6, flip),))
        return renderer._draw_chunk(batch_of([scene]), torch.zeros(1))[0, 0].float()

    ground = torch.from_numpy(paint_backgrounds(64)[0])
    plain, mirrored = ((draw(flip) - ground).abs().amax(0) > 40 for flip in (False, True))
    assert (plain.flip(-1) ^ mirrored).float().mean() < 0.02
    assert (plain ^ mirrored).float().mean() > 0.02


def test_all_sprites_fill_their_square_and_differ() -> None:
    atlas = sprites.atlas()
    assert atlas.shape == (len(OBJECTS), 4, sprites.SIDE, sprites.SIDE)
    assert (atlas[:, :3] <= atlas[:, 3:].astype(int) + 1).all()
    flat = atlas.reshape(len(atlas), -1).astype(np.float32)
    distance = ((flat[:, None, ::7] - flat[None, :, ::7]) ** 2).mean(-1) + 1e9 * np.eye(len(atlas))
    assert distance.min() > 400


def test_the_atlas_file_replaces_the_font(tmp_path: Path) -> None:
    path = tmp_path / "sprites.npz"
    sprites.write_atlas(path)
    assert np.array_equal(sprites.read_atlas(path), sprites.draw_atlas())
    with pytest.raises(FileNotFoundError, match="KOMA_SPRITES"):
        sprites.read_atlas(tmp_path / "missing.npz")


def test_one_core_draws_500_frames_a_second(renderer: Renderer) -> None:
    batch = sample_batch(48, 4)
    renderer.clips(batch)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        renderer.clips(batch)
        best = max(best, 48 * 9 / (time.perf_counter() - start))
    assert best >= 500
