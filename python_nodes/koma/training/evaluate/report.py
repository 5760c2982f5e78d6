"""Writes docs/quality.md from the figures of all parts; figures of parts not measured now are kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from koma.training.evaluate.context import Context
from koma.training.evaluate.figures import Figure

STORE = "figures.json"
INTRODUCTION = """# Quality of the emoji checkpoints

Measured by `koma evaluate` on scenes of Emoji World drawn from seeds that training does not use.
The truth is the world's: captions are read by a parser of its grammar, pictures and clips are read
by a judge, a small classifier trained on rendered truth that took no part in training any
generator. Everything is sampled with the stock classes of transformers and diffusers and the
checkpoints' own default parameters; prompts come in random wordings. Scenes are drawn evenly over
all combinations of object, background and motion, a tenth of which training never saw; the rows on
held-out combinations have only those. An object counts as recognised when the judge's likeliest
objects, as many as the scene has (one or two), are exactly the scene's.

Intervals are 95 %: Wilson's for shares, normal for means in dB; for seconds the least and the most
of the repetitions.

| what | value | interval | samples | needed | aimed at |
|---|---:|---:|---:|---:|---:|
"""
FAMILIES = ("smolvlm2", "amused", "ltx-video")
UNTRAINED = """
There is no trained checkpoint of {}: the server runs untrained ones and says so, and nothing that
needs them is measured.
"""


def write_report(context: Context, measured: dict[str, list[Figure]], order: list[str]) -> Path:
    """Merge `measured` (part → figures) into the stored figures and write the page; return its path."""
    store = context.sheets / STORE
    stored = json.loads(store.read_text()) if store.exists() else {}
    stored |= {part: [asdict(figure) for figure in figures] for part, figures in measured.items()}
    store.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    rows = [_row(Figure(**figure)) for part in order for figure in stored.get(part, [])]
    sheets = sorted(path.name for path in context.sheets.glob("*.png"))
    shown = "".join(f"\n### {name.removesuffix('.png')}\n\n![](quality/{name})\n" for name in sheets)
    absent = [family for family in FAMILIES if not context.has(family)]
    untrained = UNTRAINED.format(", ".join(f"`{family}`" for family in absent)) if absent else ""
    page = context.out / "quality.md"
    title = "\n## The worst samples\n\nThose that the judge or the parser liked least, worst first.\n"
    page.write_text(INTRODUCTION + "\n".join(rows) + "\n" + untrained + (title + shown if sheets else ""))
    return page


def _row(figure: Figure) -> str:
    digits = 2 if figure.less_is_better else 1
    cells = [
        figure.what,
        f"{figure.value:.{digits}f} {figure.unit}",
        f"{figure.low:.{digits}f}-{figure.high:.{digits}f}",
        str(figure.n),
        _goal(figure, figure.must),
        _goal(figure, figure.aim),
    ]
    return f"| {' | '.join(cells)} |"


def _goal(figure: Figure, goal: float | None) -> str:
    if goal is None:
        return ""
    sign, mark = "≤" if figure.less_is_better else "≥", "✓" if figure.reached(goal) else "✗"
    return f"{sign} {goal:g} {figure.unit} {mark}"
