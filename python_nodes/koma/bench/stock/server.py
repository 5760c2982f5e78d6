"""``python -m koma.bench.stock.server FAMILY,… SETTING``: lines of arrivals on stdin, of latencies on stdout.

One thread, one call at a time: ``single`` runs requests in the order in which they came; ``whole`` takes
with the first one all that wait with the same key, up to the slots of Koma's model nodes, and takes nobody
in until the call returns.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from koma.bench import setting as settings
from koma.bench.setting import SLOTS, Setting
from koma.bench.stock.pipelines import Pipeline, load
from koma.bench.workload import Request


@dataclass(frozen=True)
class Arrival:
    """A request and the second at which it comes."""

    at: float
    request: Request


class StockServer:
    """Runs arrivals as they come."""

    def __init__(self, pipelines: dict[str, Pipeline]) -> None:
        self._pipelines = pipelines

    def run(self, mode: str, arrivals: list[Arrival]) -> tuple[list[float], list[int]]:
        """Return the latency in seconds of each arrival, and the sizes of the batches."""
        begin = time.perf_counter()
        coming, waiting = deque(enumerate(arrivals)), deque[tuple[int, Arrival]]()
        latencies, sizes = [0.0] * len(arrivals), []
        while coming or waiting:
            now = time.perf_counter() - begin
            while coming and coming[0][1].at <= now:
                waiting.append(coming.popleft())
            if not waiting:
                time.sleep(coming[0][1].at - now)
                continue
            batch = self._batch(mode, waiting)
            first = batch[0][1].request
            self._pipelines[first.family].run([arrival.request for _, arrival in batch])
            ended = time.perf_counter() - begin
            sizes.append(len(batch))
            for number, arrival in batch:
                latencies[number] = ended - arrival.at
        return latencies, sizes

    def _batch(self, mode: str, waiting: deque[tuple[int, Arrival]]) -> list[tuple[int, Arrival]]:
        batch = [waiting.popleft()]
        if mode == "whole":
            key = self._key(batch[0][1].request)
            same = [item for item in waiting if self._key(item[1].request) == key][: SLOTS - 1]
            for item in same:
                waiting.remove(item)
            batch += same
        return batch

    def _key(self, request: Request) -> tuple[str, object]:
        return request.family, self._pipelines[request.family].key(request)


def serve(families: list[str], setting: Setting, source: TextIO, target: TextIO) -> None:
    """Load, say so, and run each line of arrivals."""
    with TemporaryDirectory(prefix="koma-stock-") as folder:
        server = StockServer({family: load(family, Path(folder), setting) for family in families})
        print(json.dumps({"ready": families}), file=target, flush=True)
        for line in source:
            asked = json.loads(line)
            arrivals = [Arrival(item["at"], Request(**item["request"])) for item in asked["arrivals"]]
            latencies, sizes = server.run(asked["mode"], arrivals)
            print(json.dumps({"latencies": latencies, "sizes": sizes}), file=target, flush=True)


def main() -> None:
    """Keep what libraries print away from the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.argv[1].split(","), settings.from_json(sys.argv[2]), sys.stdin, answers)


if __name__ == "__main__":
    main()
