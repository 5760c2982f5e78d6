"""The section ``marks``."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from koma.bench.finding import Finding
from koma.bench.marks import cost, found, share, unmarked
from koma.bench.plan import Plan

TEXT = """What the invisible mark withstands, what both marks cost, and what the detector says of pictures
without a mark. Pictures are crops of the photos that come with scikit-image and scenes of Emoji World; each
has its own key and id. A picture counts where the mark is found and the id is the right one. What the mark
is, and the bound on false positives, is in [provenance](provenance.md). "Written" is encoding and writing
alone; "with marks" also marks and signs."""


def measure(plan: Plan) -> Finding:
    """Measure one after another, on all cores."""
    finding = Finding("marks", "Marks", TEXT)
    finding.tables.append(cost.measure(plan))
    table, finding.bars = share.measure(plan)
    finding.tables.append(table)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        finding.tables.append(found.of_pictures(plan, pool))
        finding.tables.append(found.of_clips(plan, pool))
        tables, bar = unmarked.measure(plan, pool)
    finding.tables += tables
    finding.bars.append(bar)
    return finding
