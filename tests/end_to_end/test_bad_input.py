"""Bad input through the public interface: a coded error with field, value and bound; nothing restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.end_to_end.raw import raw_socket
from tests.end_to_end.server import model_node_pids
from websockets.exceptions import ConnectionClosed, InvalidStatus

from koma.cli.server_process import ServerProcess
from koma.client import Client, RefusedError

TOY = "toy.run"
MIB = 1024 * 1024
JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def nothing_restarts(server: ServerProcess) -> Iterator[None]:
    """The same model nodes serve before and after, and the server still answers."""
    before = model_node_pids(server)
    assert len(before) == 2
    yield
    assert model_node_pids(server) == before
    assert httpx.get(f"{server.url}/health/ready").status_code == 200


async def post(server: ServerProcess, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.post(f"{server.url}/v1/jobs", **body)


# request → code, field
REQUESTS: dict[str, tuple[Any, str, str | None]] = {
    "no task": ({}, "missing_field", "task"),
    "unknown task": ({"task": "toy.walk"}, "unknown_task", "task"),
    "task of the wrong type": ({"task": 7}, "wrong_type", "task"),
    "unknown model": ({"task": TOY, "model": "gpt"}, "unknown_model", "model"),
    "unknown field": ({"task": TOY, "parms": {}}, "unknown_field", "parms"),
    "unknown parameter": ({"task": TOY, "params": {"stepz": 3}}, "unknown_field", "stepz"),
    "parameters that are a list": ({"task": TOY, "params": [1]}, "wrong_type", "params"),
    "text for a number": ({"task": TOY, "params": {"steps": "3"}}, "wrong_type", "steps"),
    "a fraction for a whole number": ({"task": TOY, "params": {"steps": 3.5}}, "wrong_type", "steps"),
    "true for a number": ({"task": TOY, "params": {"steps": True}}, "wrong_type", "steps"),
    "too small": ({"task": TOY, "params": {"steps": 0}}, "out_of_bounds", "steps"),
    "too large": ({"task": TOY, "params": {"steps": 10_001}}, "out_of_bounds", "steps"),
    "huge number": ({"task": TOY, "params": {"steps": 10**40}}, "out_of_bounds", "steps"),
    "value not of the list": ({"task": TOY, "params": {"fail": "now"}}, "invalid_value", "fail"),
    "negative seed": ({"task": TOY, "params": {"seed": -1}}, "out_of_bounds", "seed"),
    "unknown input": ({"task": TOY, "inputs": {"film": "0" * 64}}, "unknown_field", "inputs.film"),
    "artifact not stored": ({"task": TOY, "inputs": {"file": "0" * 64}}, "artifact_not_found", "inputs.file"),
    "artifact that is a path": ({"task": TOY, "inputs": {"file": "../../etc/passwd"}}, "", "inputs.file"),
    "artifact of the wrong type": ({"task": TOY, "inputs": {"file": 1}}, "wrong_type", "inputs.file"),
    "unknown priority": ({"task": TOY, "priority": "vip"}, "invalid_value", "priority"),
    "negative deadline": ({"task": TOY, "deadline_ms": -5}, "out_of_bounds", "deadline_ms"),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_wrong_request_is_refused_alike_over_both_roads(server: ServerProcess, name: str) -> None:
    request, code, field = REQUESTS[name]
    async with raw_socket(server.url) as socket:
        reply = await socket.ask("jobs", "submit", request)
    answer = await post(server, json=request)
    error = answer.json()["error"]
    assert reply["status"] == "error"
    told = {key: value for key, value in reply["response"].items() if key != "reason"}
    assert told == error
    assert error["message"]
    assert error["field"] == field
    if code:
        assert error["code"] == code


@pytest.mark.parametrize(("steps", "bound"), [(0, 1), (10_001, 10_000)])
async def test_an_error_of_bounds_names_value_and_bound(client: Client, steps: int, bound: int) -> None:
    with pytest.raises(RefusedError) as refusal:
        await client.submit(TOY, {"steps": steps})
    assert (refusal.value.field, refusal.value.value) == ("steps", steps)
    assert str(bound) in str(refusal.value.bound)


async def test_a_misspelt_field_is_answered_with_the_nearest_one(client: Client) -> None:
    with pytest.raises(RefusedError, match="steps"):
        await client.submit(TOY, {"stepz": 3})


@pytest.mark.parametrize("payload", ["[1,2]", "7", '"text"', "null"])
async def test_a_request_that_is_no_object_is_refused(server: ServerProcess, payload: str) -> None:
    async with raw_socket(server.url) as socket:
        await socket.send(f'["1","9","jobs","submit",{payload}]')
        reply = await socket.reply()
    assert reply["status"] == "error"
    assert reply["response"]["code"] in ("wrong_type", "invalid_request")
    answer = await post(server, content=payload, headers=JSON)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "frame",
    ["", "{", "not json", '["1","9","jobs","submit",{"task":"toy.run","params":{"steps":NaN}}]', "[" * 9999],
)
async def test_malformed_json_is_answered_and_the_socket_goes_on(server: ServerProcess, frame: str) -> None:
    async with raw_socket(server.url) as socket:
        await socket.send(frame)
        reply = await socket.reply()
        assert reply["status"] == "error"
        assert reply["response"]["code"] in ("invalid_json", "invalid_request")
        assert (await socket.ask("phoenix", "heartbeat", {}))["status"] == "ok"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"task": NaN}', b""])
def test_malformed_json_over_http_is_refused(server: ServerProcess, body: bytes) -> None:
    answer = httpx.post(f"{server.url}/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")


async def test_an_unknown_topic_is_refused(server: ServerProcess) -> None:
    async with raw_socket(server.url, topic=None) as socket:
        reply = await socket.ask("room:lobby", "phx_join", {}, ref="1")
        assert reply["response"]["code"] == "unknown_topic"
        assert reply["response"]["value"] == "room:lobby"
        reply = await socket.ask("jobs", "submit", {"task": TOY})
        assert reply["response"]["code"] == "unknown_topic"


async def test_an_unknown_event_is_refused(server: ServerProcess) -> None:
    async with raw_socket(server.url) as socket:
        reply = await socket.ask("jobs", "delete_everything", {})
        assert reply["response"]["code"] == "unknown_event"


@pytest.mark.parametrize("query", ["vsn=1.0.0", "", "vsn=3.0.0", "vsn="])
async def test_another_version_of_the_protocol_is_refused_at_the_handshake(
    server: ServerProcess, query: str
) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        async with raw_socket(server.url, query):
            pass
    assert refusal.value.response.status_code == 403


async def test_a_frame_over_the_limit_is_refused_and_the_socket_goes_on(server: ServerProcess) -> None:
    async with raw_socket(server.url) as socket:
        await socket.send('["1","9","jobs","submit",{"task":"' + "x" * (8 * MIB) + '"}]')
        reply = await socket.reply()
        assert reply["response"]["code"] == "too_large"
        assert reply["response"]["bound"] == 8 * MIB
        assert (await socket.ask("phoenix", "heartbeat", {}))["status"] == "ok"


async def test_a_frame_far_over_the_limit_is_not_read(server: ServerProcess) -> None:
    async with raw_socket(server.url) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.ask("jobs", "submit", {"task": "x" * (20 * MIB)})
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_the_client_tells_a_frame_over_the_limit_as_a_refusal(client: Client) -> None:
    for size in (9 * MIB, 20 * MIB):
        with pytest.raises(RefusedError) as refusal:
            await client.submit("x" * size)
        assert refusal.value.code == "too_large"


async def test_binary_frames_from_a_client_are_answered(server: ServerProcess) -> None:
    async with raw_socket(server.url) as socket:
        await socket.send(b"\x00\x01\x01\x04\x06" + b"19jobssubmit" + b"\x00\xff")
        assert (await socket.reply())["status"] == "error"
        await socket.send(b"\x09garbage")
        assert (await socket.reply())["status"] == "error"


def test_an_unknown_route_and_a_wrong_method_are_told(server: ServerProcess) -> None:
    answer = httpx.get(f"{server.url}/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = httpx.put(f"{server.url}/v1/jobs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_an_upload_with_another_digest_is_refused(server: ServerProcess) -> None:
    headers = {"content-type": "text/plain", "x-content-sha256": "0" * 64}
    answer = httpx.post(f"{server.url}/v1/artifacts", content=b"abc", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "digest_mismatch")
