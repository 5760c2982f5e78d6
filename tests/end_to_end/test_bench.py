"""The benchmark measures what it says, against a real server."""

from __future__ import annotations

import asyncio

from koma.bench import memory, road
from koma.cli.server_process import ServerProcess


def test_the_road_is_measured_over_exactly_the_jobs_asked_for(server: ServerProcess) -> None:
    rate = asyncio.run(road.measure(server.url, in_flight=4, jobs=25))
    assert (rate.in_flight, rate.jobs) == (4, 25)
    assert rate.per_second > 0
    assert 0 < rate.p50_ms <= rate.p99_ms


def test_memory_is_that_of_the_gateway_and_of_each_model_node(server: ServerProcess) -> None:
    found = memory.measure(server.pid)
    assert [item.name for item in found] == ["beam.smp", "koma:toy", "koma:toy"]
    assert all(item.mebibytes > 1 for item in found)
