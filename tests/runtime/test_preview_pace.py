"""Previews take a tenth of the time where many jobs want them, more where few do."""

from __future__ import annotations

from koma.runtime.pace import PREVIEW_SHARE, PreviewPace


def _made(cost_s: float, wanted_each_s: float, seconds: float, jobs: int) -> int:
    """Previews within ``seconds`` where one of ``jobs`` wants one every ``wanted_each_s``."""
    pace = PreviewPace()
    made = 0
    for tick in range(round(seconds / wanted_each_s)):
        if pace.take(tick * wanted_each_s, jobs):
            pace.took(cost_s)
            made += 1
    return made


def test_previews_of_many_jobs_take_their_share_of_the_time_and_no_more() -> None:
    made = _made(cost_s=0.012, wanted_each_s=0.01, seconds=60, jobs=16)
    assert 0.8 * PREVIEW_SHARE <= made * 0.012 / 60 <= PREVIEW_SHARE * 1.01


def test_a_job_that_is_alone_gets_a_preview_of_every_step_that_is_longer_than_one() -> None:
    assert _made(cost_s=0.012, wanted_each_s=0.04, seconds=0.48, jobs=1) == 12


def test_two_jobs_may_have_a_quarter_of_a_core_for_previews() -> None:
    made = _made(cost_s=0.012, wanted_each_s=0.001, seconds=60, jobs=2)
    assert 0.22 <= made * 0.012 / 60 <= 0.26


def test_previews_that_cost_nothing_are_all_made() -> None:
    assert _made(cost_s=0.0, wanted_each_s=0.01, seconds=1, jobs=16) == 100


def test_the_first_preview_is_made_at_once() -> None:
    assert PreviewPace().take(0.0, 16)
