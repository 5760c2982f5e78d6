"""The page of benchmarks keeps what is not measured anew, and says whether a bar was reached."""

from __future__ import annotations

from pathlib import Path

from koma.bench.finding import Bar, Finding, Plot, Table, read
from koma.bench.page import markdown, part, replace_part

FINDING = Finding(
    "road",
    "The road",
    "What it is.",
    command="make bench ONLY=road SEED=1",
    date="2026-11-25",
    machine="two cores",
    tables=[Table("Rates", ["server", "jobs/s"], [["Koma", "500"]])],
    bars=[Bar("at least 400", "500", True), Bar("at least 600", "500", False)],
    plots=[Plot("road", "Rates", "", "jobs/s", {"Koma": [("1", 500.0)]}, "bar")],
)


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
    assert markdown(["a", "b"], [["1", "2"], ["3", "4"]]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
        "| 3 | 4 |",
    ]


def test_a_finding_names_its_command_and_machine_and_tells_which_bars_fall_short() -> None:
    text = part(FINDING, plots=True)
    assert "`make bench ONLY=road SEED=1`, 2026-11-25" in text
    assert "two cores" in text
    assert "| at least 400 | 500 | pass |" in text
    assert "| at least 600 | 500 | falls short |" in text
    assert "images/bench/road.png" in text


def test_a_finding_is_stored_and_read_again(tmp_path: Path) -> None:
    FINDING.write(tmp_path)
    assert part(read(tmp_path / "road.json"), True) == part(FINDING, True)
