"""Tables for the terminal and for ``docs/benchmarks.md``, in parts that are replaced one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_part(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of ``name``; a new part goes to the end of ``page``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    part = f"{begin}\n{text}\n{end}"
    old = page.read_text() if page.exists() else "# Benchmarks\n"
    if begin in old and end in old:
        before, rest = old.split(begin, 1)
        after = rest.split(end, 1)[1]
        page.write_text(before + part + after)
    else:
        page.write_text(old.rstrip("\n") + f"\n\n{part}\n")
