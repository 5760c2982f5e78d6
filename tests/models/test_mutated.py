"""Files that are broken at random places are read or refused in words; see ``make soak-media`` for more."""

from __future__ import annotations

from pathlib import Path

from tests.soak import media

FILES = 360


def test_mutated_files_of_twelve_kinds_are_read_or_refused_in_words(tmp_path: Path) -> None:
    told = media.check(7, 0, FILES, tmp_path)
    assert told.faults == []
    assert len({kind for kind, _code in told.counts}) == 12
    assert told.counts.total() == FILES
    # Some are whole enough to be read, and some are not.
    assert {"read", "invalid_media"} <= {code for _kind, code in told.counts}
