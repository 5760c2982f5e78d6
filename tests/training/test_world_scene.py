"""Emoji World's scenes: deterministic, in the frame, split as promised."""

import numpy as np
import pytest
from numpy.typing import NDArray

from koma.training.world.catalogue import BACKGROUNDS, MOTIONS, OBJECTS, RIGHT, STILL
from koma.training.world.scene import (
    GAP,
    MARGIN,
    SceneBatch,
    arranged,
    batch_of,
    held_out,
    sample_batch,
    sample_scenes,
    snapped,
)


def combinations(batch: SceneBatch) -> list[tuple[int, int, int]]:
    return [(kind, scene.background, scene.motion) for scene in batch.scenes() for kind in scene.kinds]


def test_the_world_is_as_large_as_promised() -> None:
    assert len(OBJECTS) >= 40
    assert len({kind.name for kind in OBJECTS}) == len({kind.emoji for kind in OBJECTS}) == len(OBJECTS)
    assert {"cherry blossom", "cup of coffee"} <= {kind.name for kind in OBJECTS}
    assert {"animal", "vehicle", "food", "plant", "thing"} == {kind.category for kind in OBJECTS}
    assert len(BACKGROUNDS) == 6
    assert len(MOTIONS) == 7


def test_the_same_seed_gives_the_same_scenes_and_another_seed_others() -> None:
    assert sample_scenes(20, 7) == sample_scenes(20, 7)
    assert sample_scenes(20, 7) != sample_scenes(20, 8)


def test_a_known_seed_gives_the_known_scene_on_every_machine() -> None:
    first = sample_scenes(1, 2026)[0]
    assert (OBJECTS[first.kinds[0]].name, BACKGROUNDS[first.background], MOTIONS[first.motion]) == KNOWN


def test_a_tenth_of_the_combinations_is_held_out() -> None:
    table = [
        held_out(k, b, m)
        for k in range(len(OBJECTS))
        for b in range(len(BACKGROUNDS))
        for m in range(len(MOTIONS))
    ]
    assert 0.08 < np.mean(table) < 0.12


def test_training_never_sees_a_held_out_combination_and_the_held_out_split_nothing_else() -> None:
    assert not any(held_out(*combination) for combination in combinations(sample_batch(3000, 1, "train")))
    assert all(held_out(*combination) for combination in combinations(sample_batch(3000, 1, "heldout")))


def test_images_hold_out_object_and_background_whatever_the_motion() -> None:
    train = combinations(sample_batch(3000, 2, "train", medium="image"))
    kept_back = combinations(sample_batch(3000, 2, "heldout", medium="image"))
    assert not any(held_out(kind, background, STILL) for kind, background, _ in train)
    assert all(held_out(kind, background, STILL) for kind, background, _ in kept_back)


def test_every_object_background_and_motion_occurs() -> None:
    seen = np.array(combinations(sample_batch(8000, 3, "train")))
    assert [len(np.unique(column)) for column in seen.T] == [len(OBJECTS), len(BACKGROUNDS), len(MOTIONS)]


def test_counts_of_objects_are_those_asked_for() -> None:
    assert set(sample_batch(200, 4, objects=(1,)).count) == {1}
    assert set(sample_batch(200, 4, objects=(2,)).count) == {2}
    assert 0.65 < np.mean(sample_batch(4000, 4).count == 1) < 0.75


def test_a_pair_shows_two_different_objects() -> None:
    assert all(len(set(scene.kinds)) == 2 for scene in sample_scenes(500, 5, objects=(2,)))


@pytest.mark.parametrize("objects", [(1,), (2,)])
def test_nothing_leaves_the_frame(objects: tuple[int, ...]) -> None:
    batch = sample_batch(4000, 6, objects=objects)
    for path in (batch.start, batch.end):
        shown = path[:, : objects[0]]
        assert (shown[..., :2] - shown[..., 2:] / 2).min() >= MARGIN - 1e-5
        assert (shown[..., :2] + shown[..., 2:] / 2).max() <= 1 - MARGIN + 1e-5


def test_two_objects_never_overlap() -> None:
    batch = sample_batch(4000, 7, objects=(2,))
    for path in (batch.start, batch.end):
        distance = np.abs(path[:, 0, :2] - path[:, 1, :2]).max(1)
        assert (distance >= path[:, :, 2].mean(1) + GAP - 1e-5).all()


def test_every_motion_is_large_enough_to_be_seen() -> None:
    batch = sample_batch(4000, 8)
    travel = np.abs(batch.end[:, 0] - batch.start[:, 0])
    for motion, name in enumerate(MOTIONS):
        moved = travel[batch.motion == motion]
        if name == "still":
            assert moved.max() == 0
        elif name in ("growing", "shrinking"):
            assert moved[:, 2].min() > 0.1
            assert moved[:, :2].max() == 0
        else:
            assert moved[:, :2].max(1).min() > 0.2


def test_animals_and_vehicles_look_where_they_go() -> None:
    for scene in sample_scenes(500, 9):
        for item in scene.objects:
            assert item.flip == (OBJECTS[item.kind].faces_left and item.motion == RIGHT)


def test_a_batch_of_scenes_is_the_batch_they_came_from() -> None:
    batch = sample_batch(50, 10)
    again = batch_of(batch.scenes())
    for name in batch.__dataclass_fields__:
        assert np.array_equal(getattr(batch, name)[batch.count == 2], getattr(again, name)[batch.count == 2])


@pytest.mark.parametrize(("n", "objects"), [(-1, (1,)), (3, ()), (3, (3,))])
def test_impossible_requests_are_refused(n: int, objects: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="objects"):
        sample_batch(n, 0, objects=objects)


KNOWN = ("fox", "night", "shrinking")


def test_snapped_pictures_show_the_same_on_whole_cells_within_the_frame() -> None:
    before = sample_batch(4000, 5, medium="image")
    after = snapped(before, 8)
    assert np.array_equal(after.kind, before.kind)
    assert np.array_equal(after.background, before.background)
    corner, size = after.start[..., :2] - after.start[..., 2:] / 2, after.start[..., 2]
    shown = np.arange(2) < after.count[:, None]
    assert np.allclose(corner[shown] * 8, np.round(corner[shown] * 8), atol=1e-4)
    assert set(np.unique(np.round(size[shown] * 8))) == {2, 3, 4}
    assert corner[shown].min() > -1e-6
    assert (corner + size[..., None])[shown].max() < 1 + 1e-6
    assert np.abs(after.start - before.start)[shown].max() < 0.13
    assert not after.start[~shown].any()


def test_snapped_objects_do_not_overlap() -> None:
    pairs = snapped(sample_batch(4000, 6, objects=(2,), medium="image"), 8).start
    apart = np.abs(pairs[:, 0, :2] - pairs[:, 1, :2]).max(1)
    assert (apart > pairs[:, :, 2].mean(1) - 1e-6).all()


def _boxes(path: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    return path[..., :2] - path[..., 2:] / 2, path[..., :2] + path[..., 2:] / 2


def test_arranged_scenes_show_the_same_and_stay_within_the_frame() -> None:
    before = sample_batch(6000, 8)
    after = arranged(before, 8, 2)
    shown = np.arange(2) < after.count[:, None]
    for name in ("kind", "background", "motion", "count", "flip"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    for path in (after.start, after.end):
        low, high = _boxes(path)
        assert low[shown].min() > -1e-6
        assert high[shown].max() < 1 + 1e-6
        assert not path[~shown].any()
    ways = [np.sign(np.round(batch.end - batch.start, 4)) for batch in (before, after)]
    assert np.array_equal(ways[0], ways[1])
    moved = np.abs(after.end - after.start)[..., :2].max(-1) * 8
    assert set(np.unique(np.round(moved[after.count == 1, 0], 3))) == {0, 3}
    assert set(np.unique(np.round(moved[after.count == 2], 3))) == {0, 2}


def test_arranged_objects_begin_on_the_grid_where_they_are_large_and_on_cells_where_they_are_small() -> None:
    after = arranged(sample_batch(6000, 9), 8, 2)
    shown = np.arange(2) < after.count[:, None]
    shrinks_or_keeps = after.start[..., 2:] >= after.end[..., 2:]
    large, _ = _boxes(np.where(shrinks_or_keeps, after.start, after.end))
    first, _ = _boxes(after.start)
    assert np.allclose(large[shown] * 4, np.round(large[shown] * 4), atol=1e-4)
    assert np.allclose(first[shown] * 8, np.round(first[shown] * 8), atol=1e-4)
    assert set(np.unique(np.round(after.start[after.count == 1, 0, 2] * 8, 3))) == {2, 4}


def test_arranged_pairs_never_overlap_and_keep_their_order() -> None:
    before = sample_batch(6000, 10, objects=(2,))
    after = arranged(before, 8, 2)
    for path in (after.start, after.end):
        apart = np.abs(path[:, 0, :2] - path[:, 1, :2]).max(1)
        assert (apart > path[:, :, 2].mean(1) - 1e-6).all()
    for axis in (0, 1):
        order = np.sign(np.round(before.start[:, 0, axis] - before.start[:, 1, axis], 4))
        assert np.array_equal(np.sign(np.round(after.start[:, 0, axis] - after.start[:, 1, axis], 4)), order)
    assert set(np.unique(np.round(after.start[..., 2] * 8, 3))) == {2, 3, 4}
