"""Findings -> ``docs/benchmarks.md``, in parts that are replaced one by one, and what the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from koma.bench.finding import Finding, Table

PLOTS = "images/bench"
"""Folder of the plots, beside the page."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def part(finding: Finding, plots: bool) -> str:
    """Return the part of the page that tells a finding."""
    about = f"`{finding.command}`, {finding.date}, {finding.seconds:.0f} s; {finding.machine}."
    blocks = [f"## {finding.title}", finding.text, about]
    blocks += [_table(table) for table in finding.tables]
    if finding.bars:
        blocks.append(verdicts(finding))
    if plots:
        blocks += [f"![{plot.title}]({PLOTS}/{plot.name}.png)" for plot in finding.plots]
    return "\n\n".join(block for block in blocks if block)


def verdicts(finding: Finding) -> str:
    """Return the table of what was demanded."""
    rows = [[bar.demand, bar.measured, bar.verdict()] for bar in finding.bars]
    return markdown(["bar", "measured", ""], rows)


def replace_part(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of ``name``; a new part goes to the end of ``page``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    new = f"{begin}\n{text}\n{end}"
    old = page.read_text() if page.exists() else "# Benchmarks\n"
    if begin in old and end in old:
        before, rest = old.split(begin, 1)
        after = rest.split(end, 1)[1]
        page.write_text(before + new + after)
    else:
        page.write_text(old.rstrip("\n") + f"\n\n{new}\n")


def _table(table: Table) -> str:
    title = f"**{table.title}**\n\n" if table.title else ""
    return title + markdown(table.head, table.rows)
