"""How often the mark is read again, with the right id, after each change."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from koma.bench.finding import Table
from koma.bench.marks import changes, pictures
from koma.bench.plan import Plan
from koma.provenance.mark import detect, embed, payload
from koma.provenance.mark import pattern as patterns
from koma.provenance.mark.blocks import Pixels
from koma.provenance.mark.payload import Payload

SIDES = {64: 100, 128: 100, 256: 60, 512: 20, 1024: 8}
"""Pixels of a side -> pictures that are marked and changed."""
CRF = (18, 23, 28)
FRAMES = 9
CLIPS = 40
DRIFT = 2
"""Pixels by which a clip moves from frame to frame."""


@dataclass(frozen=True)
class Trial:
    """One picture or clip, its key and everything random about it."""

    frames: Sequence[Pixels]
    change: str
    seed: tuple[int, ...]


def run(trial: Trial) -> bool:
    """Mark, change, and read again."""
    random = np.random.default_rng(trial.seed)
    key = patterns.of_key(random.bytes(32))
    said = Payload(payload.VERSION, f"{int(random.integers(1 << payload.ID_BITS)):0{payload.ID_DIGITS}x}")
    marker = embed.Marker(key, said)
    marked = [marker.mark(frame) for frame in trial.frames]
    if trial.change.startswith("crf "):
        changed = changes.film(marked, int(trial.change.removeprefix("crf ")))
    else:
        changed = [changes.PICTURES[trial.change](frame, random) for frame in marked]
    reading = detect.detect(changed, key)
    return reading is not None and reading.found and reading.payload == said


def of_pictures(plan: Plan, pool: Executor) -> Table:
    """Change pictures of every size."""
    columns: dict[str, list[int]] = {}
    sides = {side: plan.pick(count, 2 if side < 512 else 1) for side, count in SIDES.items()}
    for side, count in sides.items():
        plan.say(f"{count} photos of {side} pixels, {len(changes.PICTURES)} changes")
        random = np.random.default_rng([plan.seed, side])
        columns[f"{side} px, of {count}"] = _counts(
            list(islice(pictures.crops(random, side), count)), pool, plan
        )
    scenes = list(pictures.scenes(plan.seed, sides[64], 64))
    columns[f"64 px, Emoji World, of {sides[64]}"] = _counts(scenes, pool, plan)
    rows = [
        [change, *(str(column[number]) for column in columns.values())]
        for number, change in enumerate(changes.PICTURES)
    ]
    return Table("Pictures whose id is read again", ["change", *columns], rows)


def of_clips(plan: Plan, pool: Executor) -> Table:
    """Encode clips that drift."""
    count = plan.pick(CLIPS, 2)
    plan.say(f"{count} clips of each size as H.264")
    rows = []
    for side in (64, 128, 256, 512):
        random = np.random.default_rng([plan.seed, side, FRAMES])
        wide = islice(pictures.crops(random, side + DRIFT * FRAMES), count)
        clips = [[_window(picture, number, side) for number in range(FRAMES)] for picture in wide]
        found = [
            sum(
                pool.map(
                    run, [Trial(clip, f"crf {crf}", (plan.seed, side, n)) for n, clip in enumerate(clips)]
                )
            )
            for crf in CRF
        ]
        rows.append([f"{side} px", *map(str, found)])
    return Table(
        f"Clips of {FRAMES} frames whose id is read again, of {count}",
        ["size", *(f"crf {crf}" for crf in CRF)],
        rows,
    )


def _window(picture: Pixels, number: int, side: int) -> Pixels:
    return picture[:side, number * DRIFT : number * DRIFT + side]


def _counts(given: Sequence[Pixels], pool: Executor, plan: Plan) -> list[int]:
    trials = [
        Trial([picture], change, (plan.seed, len(picture), number, row))
        for row, change in enumerate(changes.PICTURES)
        for number, picture in enumerate(given)
    ]
    found = list(pool.map(run, trials, chunksize=4))
    return [sum(found[row * len(given) : (row + 1) * len(given)]) for row in range(len(changes.PICTURES))]
