"""What a request in flight adds to a model node: its memory while one and while eight are in flight."""

from __future__ import annotations

import threading

from koma.bench import machine, memory, servers
from koma.bench.batching.replay import Replay
from koma.bench.finding import Table
from koma.bench.plan import Plan
from koma.bench.setting import FAMILIES, emoji
from koma.bench.workload import Workload
from koma.cli.server_process import ServerProcess

MANY = 8


def measure(plan: Plan) -> Table:
    """Measure each family."""
    workload = Workload(plan.random("in flight"), plan.folder("clips"), emoji())
    rows = []
    with servers.koma(plan, ",".join(FAMILIES), "in-flight") as server:
        for family in FAMILIES:
            one, many = (_most(plan, server, workload, family, count) for count in (1, MANY))
            each = (many - one) / (MANY - 1)
            rows.append([f"koma:{family}", f"{one:.0f}", f"{many:.0f}", f"{each:.1f}"])
            plan.say(f"{family}: {each:.1f} MiB per request in flight")
    head = ["model node", "most with 1 in flight MiB", f"with {MANY}", "MiB per further request"]
    return Table("Memory of requests in flight (emoji, resident, Pss)", head, rows)


def _most(plan: Plan, server: ServerProcess, workload: Workload, family: str, count: int) -> float:
    pids = [pid for pid, name in memory.processes(server.pid).items() if name == f"koma:{family}"]
    arrivals = [(0.0, request) for request in workload.requests(family, count)]
    over, most = threading.Event(), 0.0

    def look() -> None:
        nonlocal most
        while not over.wait(0.01):
            most = max(most, sum(machine.proportional_bytes(pid) for pid in pids) / machine.MEBIBYTE)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(plan.rounds):
            Replay(server.url).run(arrivals)
    finally:
        over.set()
        thread.join()
    return most
