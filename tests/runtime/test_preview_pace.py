"""Previews take a tenth of the time at most, however many jobs want them."""

from __future__ import annotations

from koma.runtime.pace import PREVIEW_SHARE, PreviewPace


def _made(pace: PreviewPace, cost_s: float, wanted_each_s: float, seconds: float) -> int:
    """Previews within ``seconds`` where somebody wants one every ``wanted_each_s``."""
    made = 0
    for tick in range(round(seconds / wanted_each_s)):
        if pace.take(tick * wanted_each_s):
            pace.took(cost_s)
            made += 1
    return made


def test_previews_take_their_share_of_the_time_and_no_more() -> None:
    made = _made(PreviewPace(), cost_s=0.012, wanted_each_s=0.01, seconds=60)
    assert 0.8 * PREVIEW_SHARE <= made * 0.012 / 60 <= PREVIEW_SHARE * 1.01


def test_previews_that_cost_nothing_are_all_made() -> None:
    assert _made(PreviewPace(), cost_s=0.0, wanted_each_s=0.01, seconds=1) == 100


def test_the_first_preview_is_made_at_once() -> None:
    assert PreviewPace().take(0.0)
