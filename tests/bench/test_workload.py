"""Requests of a benchmark come from its seed alone, and no two are alike."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest

from koma.bench.setting import FAMILIES, emoji
from koma.bench.stock.server import Arrival, StockServer
from koma.bench.workload import Request, Workload


class Instant:
    """A pipeline that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def key(self, request: Request) -> Hashable:
        return int(request.params["steps"])

    def run(self, requests: Sequence[Request]) -> None:
        self.calls.append([request.params["prompt"] for request in requests])


@pytest.mark.parametrize("family", FAMILIES)
def test_requests_are_those_of_the_seed_and_unlike_each_other(family: str, tmp_path: Path) -> None:
    first, again, other = (
        Workload(random.Random(seed), tmp_path, emoji()).requests(family, 6) for seed in (1, 1, 2)
    )
    assert [one.params for one in first] == [one.params for one in again]
    assert [one.params for one in first] != [one.params for one in other]
    assert len({str(one.params) for one in first}) == 6


def test_arrivals_come_in_order_and_on_average_as_often_as_asked() -> None:
    workload = Workload(random.Random(3), Path(), emoji())
    times = list(workload.arrivals(50.0, 2000))
    assert times == sorted(times)
    assert 2000 / times[-1] == pytest.approx(50, rel=0.1)


def test_whole_request_batching_takes_those_that_can_share_a_call_and_one_at_a_time_takes_none() -> None:
    requests = [Request("toy", {"steps": steps, "prompt": str(n)}) for n, steps in enumerate([6, 9, 6, 6, 9])]
    arrivals = [Arrival(0.0, request) for request in requests]
    whole, single = Instant(), Instant()
    latencies, sizes = StockServer({"toy": whole}).run("whole", arrivals)
    assert whole.calls == [["0", "2", "3"], ["1", "4"]]
    assert (sizes, len(latencies)) == ([3, 2], 5)
    StockServer({"toy": single}).run("single", arrivals)
    assert single.calls == [["0"], ["1"], ["2"], ["3"], ["4"]]
