"""Findings -> PNG: ``.venv-bench/bin/python -m koma.bench.plots FOLDER_OF_JSON FOLDER_OF_PNG``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from koma.bench.finding import Plot, read


def draw(plot: Plot, target: Path) -> None:
    """Draw one plot into a file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=100)
    {"line": _lines, "bar": _bars}[plot.kind](axes, plot)
    axes.set_title(plot.title)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    if "x" in plot.log:
        axes.set_xscale("log", base=2)
    if "y" in plot.log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(target)
    pyplot.close(figure)


def _lines(axes: Any, plot: Plot) -> None:
    for name, points in plot.series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)


def _bars(axes: Any, plot: Plot) -> None:
    labels = list(dict.fromkeys(str(x) for points in plot.series.values() for x, _ in points))
    width = 0.8 / len(plot.series)
    for number, (name, points) in enumerate(plot.series.items()):
        heights = {str(x): y for x, y in points}
        places = [place + number * width for place in range(len(labels))]
        axes.bar(places, [heights.get(label, 0) for label in labels], width, label=name)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(labels))], labels)


def main() -> None:
    """Draw every plot of every stored finding."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.json")):
        for plot in read(path).plots:
            draw(plot, target / f"{plot.name}.png")


if __name__ == "__main__":
    main()
