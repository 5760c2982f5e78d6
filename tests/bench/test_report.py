"""The page of benchmarks keeps what is not measured anew."""

from __future__ import annotations

from pathlib import Path

from koma.bench.report import replace_part, table


def test_a_part_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    replace_part(page, "one", "first")
    replace_part(page, "two", "second")
    replace_part(page, "one", "third")
    text = page.read_text()
    assert text.startswith("# Benchmarks\n")
    assert "first" not in text
    assert text.index("third") < text.index("second")
    assert text.count("<!-- one -->") == text.count("<!-- /one -->") == 1


def test_a_table_has_one_line_for_each_row() -> None:
    assert table(["a", "b"], [["1", "2"], ["3", "4"]]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
        "| 3 | 4 |",
    ]
