"""``python -m tests.soak --minutes 120``: load and faults, then tables; 1 if a promise broke."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.soak import report
from tests.soak.callers import Caller, Load
from tests.soak.cluster import Cluster, cluster
from tests.soak.faults import FAULTS, Fault, Stage
from tests.soak.leaks import Meter
from tests.soak.ledger import Ledger
from tests.soak.network import enter

CUT = 20.0  # seconds
SHORT = 10.0  # minutes: a shorter soak has shorter cuts and pauses
PAUSE = (10.0, 2.0)  # seconds between two faults, in a long soak and in a short one
WARM_UP = (4, 1)  # rounds of all faults: a long soak fills the dashboard's quarter of an hour meanwhile


class Soak:
    """A warm-up with every fault, at most half of the time; then all of them over and over."""

    def __init__(self, peers: Cluster, minutes: float, folder: Path) -> None:
        short = minutes < SHORT
        self._ledger = Ledger()
        self._stage = Stage(peers, self._ledger, CUT / 2 if short else CUT)
        self._pause = PAUSE[short]
        self._warm_up = WARM_UP[short]
        self._seconds = minutes * 60
        self._load = Load(peers.peers, self._ledger)
        self._meter = Meter(peers.a, str(folder / "a/data"))
        self._done: Counter[str] = Counter({fault.__name__: 0 for fault in FAULTS})

    async def run(self) -> bool:
        """Run it, print the tables, and return whether every promise was kept."""
        caller = Caller(self._stage.cluster.peers, self._ledger)
        await caller.undisturbed()
        await caller.close()
        watch = asyncio.create_task(self._meter.watch())
        begun = time.monotonic()
        before = await self._storm(begun + self._seconds / 2, rounds=self._warm_up)
        tables = self._meter.tables
        after = await self._storm(begun + self._seconds)
        watch.cancel()
        self._ledger.broken += report.leaked(before, after)
        report.show(
            self._ledger,
            report.grown(tables, self._meter.tables),
            report.faults(self._done),
            report.leaks(before, after, self._meter.peak),
        )
        return not self._ledger.broken

    async def _storm(self, until: float, rounds: int | None = None) -> dict[str, float]:
        """Let faults happen under load until then, or for so many rounds; return what is used afterwards."""
        self._load.begin()
        while time.monotonic() < until and rounds != 0:
            for fault in random.sample(FAULTS, len(FAULTS)):
                if time.monotonic() < until:
                    await self._strike(fault)
                    await asyncio.sleep(self._pause)
            rounds = rounds - 1 if rounds is not None else None
        await self._load.pause()
        for peer in self._stage.cluster.peers:
            await peer.ready()
        return await self._meter.at_rest()

    async def _strike(self, fault: Fault) -> None:
        print(f"{time.strftime('%H:%M:%S')} {fault.__name__}", flush=True)
        await fault(self._stage)
        self._done[fault.__name__] += 1


async def main(minutes: float, folder: Path) -> bool:
    """Start everything below ``folder``, and run a soak of so many minutes."""
    async with cluster(folder) as peers:
        return await Soak(peers, minutes, folder).run()


if __name__ == "__main__":
    enter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0, help="of the order of faults and the choice of jobs")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="koma-soak-") as name:
        kept = asyncio.run(main(arguments.minutes, Path(name)))
    sys.exit(0 if kept else 1)
