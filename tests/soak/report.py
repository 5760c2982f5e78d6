"""The tables at the end of a soak."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from tests.soak.leaks import bound
from tests.soak.ledger import Ledger
from tests.soak.work import KINDS

COLUMNS = ("accepted", "completed", "as undisturbed", "cancelled", "failed", "expired", "run again")
SHOWN = 20  # broken promises


def jobs(ledger: Ledger) -> Table:
    """Return what became of the jobs, by kind."""
    table = _table("jobs", "kind", *COLUMNS)
    for kind in KINDS:
        table.add_row(kind, *(str(ledger.counts[kind, column]) for column in COLUMNS))
    return table


def faults(done: Mapping[str, int]) -> Table:
    """Return how often each fault happened."""
    table = _table("faults", "fault", "times")
    for name, times in done.items():
        table.add_row(name.replace("_", " "), str(times))
    return table


def leaks(before: Mapping[str, float], after: Mapping[str, float], peak: Mapping[str, float]) -> Table:
    """Return what the first peer used at rest, and at most."""
    table = _table("at rest", "first peer", "after warm-up", "at the end", "bound", "peak under load", "")
    for what, value in before.items():
        end, most = after.get(what, 0.0), bound(what).of(value)
        verdict = "" if end <= most else "LEAK"
        table.add_row(what, *(f"{number:.0f}" for number in (value, end, most, peak[what])), verdict)
    return table


def leaked(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Return what is more at the end than it may be."""
    return [
        f"{what}: {value:.0f} after the warm-up, {after.get(what, 0.0):.0f} at the end"
        for what, value in before.items()
        if after.get(what, 0.0) > bound(what).of(value)
    ]


def grown(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Return which tables (ETS) have more entries at the end, and how many."""
    more = {name: size - before.get(name, 0.0) for name, size in after.items()}
    return ", ".join(f"{name} +{count:.0f}" for name, count in more.items() if count > 0) or "none"


def show(ledger: Ledger, more_entries: str, *tables: Table) -> None:
    """Print it all."""
    console = Console(width=110)
    for table in (jobs(ledger), *tables):
        console.print(table)
    console.print(f"tables with more entries at the end: {more_entries}")
    refused = ", ".join(f"{code} {count}" for code, count in ledger.refusals.most_common()) or "none"
    console.print(f"refused: {refused}; answers that were lost: {ledger.unknown}")
    console.print(f"followed on after a break: {ledger.elsewhere}")
    for broken in ledger.broken[:SHOWN]:
        console.print(f"BROKEN {broken}", markup=False)
    console.print(f"{len(ledger.broken)} promises broken")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table
