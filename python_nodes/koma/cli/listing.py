"""Lists of what a server has: a table on a terminal, tabs elsewhere, JSON lines for scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from koma.cli.display import emit
from koma.client.records import Record

R = TypeVar("R", bound=Record)


def show(records: Sequence[R], columns: Mapping[str, Callable[[R], str]], json: bool) -> None:
    """Print records with the columns that a person wants to see; JSON lines have all fields."""
    if json:
        for record in records:
            emit(record.model_dump(by_alias=True, exclude_none=True))
        return
    rows = [[column(record) for column in columns.values()] for record in records]
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
