"""The measurement of the marks is a measurement: it finds what is there and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from tests.provenance.pictures import picture

from koma.bench.marks import changes, found
from koma.bench.marks.found import Trial


@pytest.mark.parametrize(("change", "survives"), [("JPEG 75", True), ("crf 23", True), ("mirrored", False)])
def test_a_trial_tells_whether_the_id_came_through(change: str, survives: bool) -> None:
    frames = [picture(5, 128, 128)] * 3
    assert found.run(Trial(frames, change, (7, 1))) is survives


def test_every_change_gives_a_picture_and_the_same_one_from_the_same_seed() -> None:
    given = picture(1, 72, 96)
    for name, change in changes.PICTURES.items():
        first, second = (change(given, np.random.default_rng(3)) for _ in range(2))
        assert first.dtype == np.uint8, name
        assert first.shape[2:] == (3,), name
        assert (first == second).all(), name
