"""The section ``scale``: what many of something cost."""

from __future__ import annotations

from koma.bench.finding import Bar, Finding
from koma.bench.plan import Plan
from koma.bench.scale import files, followers, peers, queue, sockets
from koma.cli.server_process import ServerError

TEXT = """Idle sockets are raw ones that joined `jobs`. The followers of one job are sockets of their own in
one client process; previews may be dropped for those that lag. In the long queue every job waits behind
eight that hold the slots, and each is stored, synced and answered before the next of its 64 places is used
again. The large file is uploaded with its digest computed by the server, and synced. The peers share
the cores of this machine, so their jobs sleep; all are submitted to the first."""


def measure(plan: Plan) -> Finding:
    """Measure one after another."""
    finding = Finding("scale", "Scale", TEXT)
    idle, idle_bar = sockets.measure(plan)
    long, long_bar, plot = queue.measure(plan)
    large, large_bar = files.measure(plan)
    finding.tables = [idle, followers.measure(plan), long, large]
    finding.bars = [idle_bar, long_bar, large_bar]
    finding.plots = [plot]
    try:
        table, bar = peers.measure(plan)
    except (RuntimeError, ServerError) as error:
        plan.say(f"peers were not measured: {error}")
        finding.bars.append(Bar(f"three peers do ≥ {peers.DEMANDED}× the work of one", "not measured", False))
    else:
        finding.tables.append(table)
        finding.bars.append(bar)
    return finding
