"""Lists of what a server has: a table on a terminal, tabs elsewhere, JSON lines for scripts.

The first column names the thing, and is what people copy into the next command: it is never cut nor broken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from koma.cli.display import emit
from koma.client.records import Record

R = TypeVar("R", bound=Record)
MIN_WIDTH = 4  # characters of a column that gives way
GAP = 2  # characters between two columns


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
    console = Console(highlight=False)
    console.print(_table(list(columns), rows, console.width), soft_wrap=True)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """Return the table; where ``width`` is too narrow, the columns after the first give way.

    They break between words as long as that is enough, then within words.
    """
    first, *others = zip(heads, *rows, strict=True)
    whole = max(cell_len(text) for text in first)
    words = [max(cell_len(word) for text in column for word in text.split()) for column in others]
    enough = whole + sum(words) + GAP * len(others) <= width
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    table.add_column(heads[0], no_wrap=True, min_width=whole)
    for head, word in zip(heads[1:], words, strict=True):
        table.add_column(head, overflow="fold", min_width=word if enough else MIN_WIDTH)
    for row in rows:
        table.add_row(*row)
    return table
