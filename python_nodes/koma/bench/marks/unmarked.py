"""Scores of pictures that bear no mark: nothing must be found, and the bound of the score must hold."""

from __future__ import annotations

from concurrent.futures import Executor
from itertools import islice

import numpy as np
import numpy.typing as npt

from koma.bench.finding import Bar, Table
from koma.bench.marks import pictures
from koma.bench.plan import Plan
from koma.provenance.mark import blocks, code, detect, evidence, payload, search
from koma.provenance.mark import pattern as patterns
from koma.provenance.mark.payload import Payload

QUICK_GROUPS = (search.in_place, search.stretched, search.blurred)
SIDES = (64, 96, 128, 192)
BATCH = 250
"""Pictures that share a key."""
BATCHES = 404
SEARCHED = 300
"""Pictures in which the whole search is made, which takes a hundred times as long."""
BOUNDS = (2.0, 3.0, 4.0)


def scores(batch: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return [pictures, 2] for one batch: the best score, and that of one fixed payload and place."""
    random = np.random.default_rng([7, *batch])
    key = patterns.of_key(random.bytes(32))
    side = SIDES[batch[1] % len(SIDES)]
    if batch[1] % 5 == 4:
        given = list(pictures.scenes(int(random.integers(1 << 31)), BATCH, 64))
    else:
        given = list(islice(pictures.crops(random, side), BATCH))
    signs = 2.0 * code.encode(Payload(payload.VERSION, "0" * payload.ID_DIGITS).bits()) - 1.0
    found = np.empty((len(given), 2))
    for row, picture in enumerate(given):
        reading = detect.detect([picture], key, QUICK_GROUPS)
        sums = next(search.in_place([blocks.luma(picture)]))
        values = -np.real(sums * np.exp(-2j * np.pi * key.turns.ravel()))
        norm = float(np.sqrt((np.abs(sums) ** 2).sum() / 2))
        found[row] = 0.0 if reading is None else reading.score, (values @ key.membership @ signs)[0] / norm
    return found


def searched(seed: tuple[int, int]) -> float:
    """Return the best score of the whole search in one picture."""
    random = np.random.default_rng([8, *seed])
    picture = next(pictures.crops(random, SIDES[seed[1] % len(SIDES)]))
    reading = detect.detect([picture], patterns.of_key(random.bytes(32)))
    return 0.0 if reading is None else reading.score


def measure(plan: Plan, pool: Executor) -> tuple[list[Table], Bar]:
    """Score pictures without marks, and compare with the bound."""
    batches, whole = plan.pick(BATCHES, 4), plan.pick(SEARCHED, 4)
    plan.say(f"{batches * BATCH} unmarked pictures, in {whole} more the whole search")
    told = np.concatenate(list(pool.map(scores, [(plan.seed, number) for number in range(batches)])))
    deep = np.array(list(pool.map(searched, [(plan.seed, number) for number in range(whole)])))
    false = int((told[:, 0] >= evidence.THRESHOLD).sum() + (deep >= evidence.THRESHOLD).sum())
    table = Table(
        "Best scores of unmarked pictures",
        ["search", "pictures", "median", "highest", "threshold", "found"],
        [
            _row("in place, contrast, blur", told[:, 0]),
            _row("whole", deep),
        ],
    )
    fixed = Table(
        "Scores of one payload at one place, against their bound",
        ["above", "bound exp(−t²/2)", "of unmarked pictures"],
        [[f"{t:.0f}", f"{np.exp(-(t**2) / 2):.2e}", f"{np.mean(told[:, 1] > t):.2e}"] for t in BOUNDS],
    )
    count = len(told) + len(deep)
    return [table, fixed], Bar(f"no mark found in {count} unmarked pictures", str(false), false == 0)


def _row(name: str, found: npt.NDArray[np.float64]) -> list[str]:
    return [
        name,
        str(len(found)),
        f"{np.median(found):.1f}",
        f"{found.max():.1f}",
        f"{evidence.THRESHOLD:.1f}",
        str(int((found >= evidence.THRESHOLD).sum())),
    ]
