"""Scenes: what is shown, where and how it moves. Deterministic from a seed, on every machine the same.

A scene has a background and one or two objects that share one motion. Lengths are fractions of the image's
side; an object's place is its centre in the first frame and `to_…` in the last; it moves evenly in between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .catalogue import BACKGROUNDS, DOWN, GROWING, LEFT, MOTIONS, OBJECTS, RIGHT, SHRINKING, STILL, UP

Split = Literal["train", "heldout", "any"]
Medium = Literal["clip", "image"]
SPLITS: tuple[Split, ...] = ("train", "heldout", "any")
MAX_OBJECTS = 2
SINGLE_SHARE = 0.7
"""Share of scenes with one object where both counts are asked for."""
MARGIN = 0.02
"""Least distance of an object from the border."""
GAP = 0.03
"""Least distance between two objects."""
HELD_OUT_SHARE = 0.1
CELLS = 8
"""Cells on a side that small models learn to lay objects on, see `snapped` and `arranged`."""
STRIDE = 2
"""Cells between the places of arranged objects: of fewer places a model agrees on one sooner."""


@dataclass(frozen=True)
class SceneObject:
    """One object: catalogue index, path of its centre and of its size (longer side), mirrored or not."""

    kind: int
    x: float
    y: float
    scale: float
    to_x: float
    to_y: float
    to_scale: float
    motion: int
    flip: bool


@dataclass(frozen=True)
class Scene:
    """One scene. The first object is the left one, or the lower one of a stacked pair."""

    background: int
    objects: tuple[SceneObject, ...]

    @property
    def kinds(self) -> tuple[int, ...]:
        """Catalogue indices of the objects, in order."""
        return tuple(item.kind for item in self.objects)

    @property
    def motion(self) -> int:
        """The motion that all objects share."""
        return self.objects[0].motion

    @property
    def stacked(self) -> bool:
        """True for a pair of which the first object is under the second."""
        return len(self.objects) == 2 and abs(self.objects[0].x - self.objects[1].x) < 1e-6


@dataclass(frozen=True)
class SceneBatch:
    """Many scenes as arrays; rows of the object axis beyond `count` have size 0.

    `background`, `count`, `motion` are int64 `[B]`; `kind` int64 `[B, 2]`; `flip` bool `[B, 2]`;
    `start` and `end` float32 `[B, 2, 3]` hold (x, y, scale) in the first and in the last frame.
    """

    background: NDArray[np.int64]
    motion: NDArray[np.int64]
    count: NDArray[np.int64]
    kind: NDArray[np.int64]
    flip: NDArray[np.bool_]
    start: NDArray[np.float32]
    end: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.background)

    def scenes(self) -> list[Scene]:
        """Return the same scenes one by one."""
        return [self._scene(row) for row in range(len(self))]

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> SceneBatch:
        return SceneBatch(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def _scene(self, row: int) -> Scene:
        motion, objects = int(self.motion[row]), []
        for i in range(self.count[row]):
            (x, y, scale), (to_x, to_y, to_scale) = self.start[row, i].tolist(), self.end[row, i].tolist()
            kind, flip = int(self.kind[row, i]), bool(self.flip[row, i])
            objects.append(SceneObject(kind, x, y, scale, to_x, to_y, to_scale, motion, flip))
        return Scene(int(self.background[row]), tuple(objects))


def batch_of(scenes: list[Scene]) -> SceneBatch:
    """Return scenes as one `SceneBatch`."""
    batch = _empty(len(scenes))
    for row, scene in enumerate(scenes):
        batch.background[row], batch.motion[row], batch.count[row] = (
            scene.background,
            scene.motion,
            len(scene.objects),
        )
        for i, item in enumerate(scene.objects):
            batch.kind[row, i], batch.flip[row, i] = item.kind, item.flip
            batch.start[row, i] = item.x, item.y, item.scale
            batch.end[row, i] = item.to_x, item.to_y, item.to_scale
    return batch


def held_out(kind: int, background: int, motion: int) -> bool:
    """Tell whether training never sees this combination (a fixed tenth of all, by a hash).

    For images the combination (kind, background) is held out where (kind, background, still) is.
    """
    return bool(_HELD_OUT[kind, background, motion])


def sample_scenes(
    n: int, seed: int, split: Split = "any", objects: tuple[int, ...] = (1, 2), medium: Medium = "clip"
) -> list[Scene]:
    """Return `n` scenes; the arguments are those of `sample_batch`."""
    return sample_batch(n, seed, split, objects, medium).scenes()


def sample_batch(
    n: int, seed: int, split: Split = "any", objects: tuple[int, ...] = (1, 2), medium: Medium = "clip"
) -> SceneBatch:
    """Draw `n` scenes evenly over the allowed combinations.

    `split` "train" has no held-out combination, "heldout" has nothing else, "any" has both. `objects` are the
    counts that may occur: (1,), (2,) or (1, 2). `medium` decides what a combination is, see `held_out`.
    """
    if n < 0 or not objects or not set(objects) <= {1, 2}:
        raise ValueError(f"n must be >= 0 and objects of 1 and 2, not n={n}, objects={objects}")
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    allowed = _allowed(split, medium)
    batch = _empty(n)
    choice = rng.integers(0, np.count_nonzero(allowed), n)
    batch.kind[:, 0], batch.background[:], batch.motion[:] = np.argwhere(allowed)[choice].T
    single = rng.random(n) < SINGLE_SHARE if len(set(objects)) == 2 else np.full(n, objects[0] == 1)
    partner_score = rng.random((n, len(OBJECTS))) * allowed[:, batch.background, batch.motion].T
    np.put_along_axis(partner_score, batch.kind[:, :1], 0.0, axis=1)
    single |= ~partner_score.any(axis=1)
    batch.count[:] = np.where(single, 1, 2)
    batch.kind[:, 1] = np.where(single, 0, partner_score.argmax(axis=1))
    _place(batch, rng)
    faces_left = np.array([kind.faces_left for kind in OBJECTS])
    batch.flip[:] = faces_left[batch.kind] & (batch.motion == RIGHT)[:, None]
    return batch


def snapped(batch: SceneBatch, cells: int) -> SceneBatch:
    """Return the same scenes with places and sizes of the first frame in whole cells, `cells` to a side.

    Objects are 2 to `cells`/2 cells large; the last frame moves along. Pictures laid on a model's token grid
    have far fewer tokens to learn: an object looks the same wherever it lies.
    """
    start, end = batch.start.copy(), batch.end.copy()
    pair = (batch.count == 2)[:, None]
    scale = batch.start[:, :, 2]
    size = np.clip(np.floor(scale * cells + np.where(pair, 0.0, 0.5)), 2, cells // 2) / cells
    for axis in (0, 1):
        corner = np.round((batch.start[:, :, axis] - scale / 2) * cells) / cells
        start[:, :, axis] = np.clip(corner, 0, 1 - size) + size / 2
        end[:, :, axis] += start[:, :, axis] - batch.start[:, :, axis]
    start[:, :, 2] = size
    end[:, :, 2] *= size / np.maximum(scale, 1e-6)
    present = (np.arange(MAX_OBJECTS) < batch.count[:, None])[:, :, None]
    return replace(batch, start=start * present, end=end * present)


def arranged(batch: SceneBatch, cells: int, stride: int) -> SceneBatch:
    """Return the same scenes as small models learn to paint and film them: the words nearly say where all is.

    Of `cells` to a side (a multiple of 8) a single object has half, two have three eighths each, or a quarter
    where they move along their row; what grows or shrinks has half where it is large and a quarter where it
    is small. Paths have whole cells, begin on every `stride`-th (where the object is large), and are three
    eighths long, those of two objects a quarter. Nothing leaves the frame or overlaps.
    """
    pair = (batch.count == 2)[:, None]
    direction = np.sign(np.round(batch.end - batch.start, 4))[:, :1]
    apart = np.where(pair, np.sign(np.round(batch.start[:, 1, :2] - batch.start[:, 0, :2], 4)), 0)
    along = (apart * direction[:, 0, :2] != 0).any(1, keepdims=True)
    changing = direction[:, :, 2] != 0
    large = cells // 8 * np.where(~pair | changing, 4, np.where(along, 2, 3))
    small = np.where(changing, cells // 4, large)
    travel = direction[:, :, :2] * (cells // 8 * np.where(pair, 2, 3))[:, None]
    corner = np.empty((len(batch), MAX_OBJECTS, 2))
    widest = np.maximum(batch.start, batch.end)[:, :1, 2]
    corner[:, 0] = np.round((batch.start[:, 0, :2] - widest / 2) * cells / stride) * stride
    corner[:, 1] = corner[:, 0] + apart * np.ceil(large / stride) * stride
    middle = _moved_inside(corner, travel, large[:, None], pair, cells, stride) + large[:, None] / 2
    size = (np.where(direction[:, :, 2] > 0, small, large), np.where(direction[:, :, 2] < 0, small, large))
    present = (np.arange(MAX_OBJECTS) < batch.count[:, None])[:, :, None]
    start, end = (
        np.concatenate([at, np.broadcast_to(scale[:, None], (*at.shape[:2], 1))], -1) / cells * present
        for at, scale in zip((middle, middle + travel), size, strict=True)
    )
    return replace(batch, start=start.astype(np.float32), end=end.astype(np.float32))


def _moved_inside(
    corner: NDArray[np.float64],
    travel: NDArray[np.float64],
    size: NDArray[np.int64],
    pair: NDArray[np.bool_],
    cells: int,
    stride: int,
) -> NDArray[np.float64]:
    """Move the corners `[B, 2, 2]` of a scene by multiples of `stride` until its path is in the frame."""
    shown = np.where(pair[:, None], corner, corner[:, :1])
    low = shown.min(1, keepdims=True) + np.minimum(travel, 0)
    high = shown.max(1, keepdims=True) + np.maximum(travel, 0) + size - cells
    up, down = (np.ceil(np.maximum(over, 0) / stride) * stride for over in (-low, high))
    return corner + up - down


def _empty(n: int) -> SceneBatch:
    path = np.zeros((2, n, MAX_OBJECTS, 3), np.float32)
    ints = np.zeros((3, n), np.int64)
    pair = np.zeros((n, MAX_OBJECTS), np.int64)
    return SceneBatch(ints[0], ints[1], ints[2], pair, np.zeros_like(pair, dtype=np.bool_), path[0], path[1])


def _hash_combinations() -> NDArray[np.bool_]:
    """Hash every combination with the finalizer of SplitMix64 (Steele, Lea, Flood 2014) and mark a tenth."""
    shape = (len(OBJECTS), len(BACKGROUNDS), len(MOTIONS))
    z = (np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z / 2.0**64 < HELD_OUT_SHARE).reshape(shape)


_HELD_OUT = _hash_combinations()


def _allowed(split: Split, medium: Medium) -> NDArray[np.bool_]:
    """Return the table `[kind, background, motion]` of the combinations that may be drawn."""
    kept_back = (
        _HELD_OUT
        if medium == "clip"
        else np.broadcast_to(_HELD_OUT[:, :, STILL : STILL + 1], _HELD_OUT.shape)
    )
    return {"train": ~kept_back, "heldout": kept_back, "any": np.ones_like(_HELD_OUT)}[split]


def _place(batch: SceneBatch, rng: np.random.Generator) -> None:
    """Fill `start` and `end` so that nothing leaves the frame, overlaps or moves too little to be seen."""
    n = len(batch)
    pair = batch.count == 2
    size = np.where(pair, rng.uniform(0.27, 0.32, n), rng.uniform(0.32, 0.50, n))
    small = np.where(pair, rng.uniform(0.20, 0.24, n), rng.uniform(0.24, 0.30, n))
    large = small * rng.uniform(1.7, 1.9, n)
    changing = (batch.motion == GROWING) | (batch.motion == SHRINKING)
    largest = np.where(changing, large, size)
    scale = [
        np.where(batch.motion == GROWING, small, largest),
        np.where(batch.motion == SHRINKING, small, largest),
    ]
    travel = np.where(pair, rng.uniform(0.22, 0.27, n), rng.uniform(0.30, 0.40, n))
    stacked = pair & (rng.random(n) < 0.35)
    for axis, forward, backward in ((0, RIGHT, LEFT), (1, DOWN, UP)):
        direction = (batch.motion == forward) * 1.0 - (batch.motion == backward)
        apart = np.where(pair & (stacked == (axis == 1)), largest + GAP, 0.0)
        room = 1 - 2 * MARGIN - largest - apart - travel * np.abs(direction)
        first = (
            MARGIN + largest / 2 + rng.random(n) * np.maximum(room, 0) + np.where(direction < 0, travel, 0)
        )
        sign = 1 if axis == 0 else -1
        first += apart * (axis == 1)
        for i in range(MAX_OBJECTS):
            batch.start[:, i, axis] = first + sign * i * apart
            batch.end[:, i, axis] = batch.start[:, i, axis] + direction * travel
    present = np.arange(MAX_OBJECTS) < batch.count[:, None]
    for path, value in ((batch.start, scale[0]), (batch.end, scale[1])):
        path[:, :, 2] = value[:, None]
        path *= present[:, :, None]
