"""The benchmark measures what it says, against a real server."""

from __future__ import annotations

import asyncio

from koma.bench import memory, servers
from koma.bench.batching.replay import Replay
from koma.bench.road import websocket
from koma.bench.scale import crowd
from koma.bench.workload import TASKS, Request
from koma.cli.server_process import ServerProcess


def test_the_road_is_measured_over_exactly_the_jobs_asked_for(server: ServerProcess) -> None:
    rate, load = asyncio.run(websocket.run(server.url, in_flight=4, jobs=25))
    assert (rate.in_flight, rate.jobs, len(load.completed)) == (4, 25, 25)
    assert rate.per_second > 0
    assert 0 < rate.p50_ms <= rate.p99_ms


def test_memory_is_that_of_the_gateway_and_of_each_model_node(server: ServerProcess) -> None:
    found = memory.measure(server.pid)
    assert [item.name for item in found] == ["beam.smp", "koma:toy", "koma:toy"]
    assert all(item.mebibytes > 1 for item in found)


def test_every_part_of_the_road_is_counted_once_for_each_job_that_goes_it(server: ServerProcess) -> None:
    before = servers.metrics(server.url, "koma_road_spans_total")
    websocket.measure(server.url, 1, 10)
    after = servers.metrics(server.url, "koma_road_spans_total")
    for part in ("job", "model_node", "runtime"):
        label = f'part="{part}"'
        assert after[label] - before.get(label, 0) == 10


def test_arrivals_are_followed_to_their_end_and_previews_are_seen_before_it(server: ServerProcess) -> None:
    TASKS["toy"] = "toy.run"
    try:
        params = {"steps": 20, "step_ms": 20, "preview_bytes": 500}
        followed = Replay(server.url).run([(0.05 * k, Request("toy", params)) for k in range(4)])
    finally:
        del TASKS["toy"]
    assert all(one.first is not None and one.end is not None and one.first < one.end for one in followed)


def test_a_crowd_of_raw_sockets_joins_and_is_answered(server: ServerProcess) -> None:
    async def joined() -> int:
        members = await crowd.join(server.url, 20, "jobs", {})
        await crowd.close(members)
        return len(members)

    assert asyncio.run(joined()) == 20
