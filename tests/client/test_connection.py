"""Errors of a client that finds no Koma server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from itertools import islice

import pytest
from websockets.asyncio.server import ServerConnection, serve

from koma.client import CallTimeoutError, Client, ServerUnreachableError, SyncClient, Timing


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound but does not listen: a connection to it is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_an_absent_server_is_told_at_once_with_its_address(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    async with Client(url) as client, asyncio.timeout(5):
        with pytest.raises(ServerUnreachableError, match=f"127.0.0.1:{closed_port}"):
            await client.submit("toy.run")
        with pytest.raises(ServerUnreachableError, match="koma serve"):
            await client.models()


def test_the_blocking_client_raises_the_same_errors_and_ends_its_thread(closed_port: int) -> None:
    with SyncClient(f"http://127.0.0.1:{closed_port}") as client:
        with pytest.raises(ServerUnreachableError):
            client.submit("toy.run")
        with pytest.raises(ServerUnreachableError):
            client.jobs()
    client.close()


async def test_a_server_that_speaks_something_else_is_told(unused_tcp_port_factory: object) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(ServerUnreachableError, match="404"):
                await client.submit("toy.run")


async def test_a_client_that_is_closed_closes_its_socket() -> None:
    ended = asyncio.Event()

    async def answer(socket: ServerConnection) -> None:
        ref = json.loads(await socket.recv())[0]
        await socket.send(json.dumps([ref, ref, "jobs", "phx_reply", {"status": "ok", "response": {}}]))
        await socket.wait_closed()
        ended.set()

    async with serve(answer, "127.0.0.1", 0) as server, asyncio.timeout(5):
        port = server.sockets[0].getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}", timing=Timing(answer=0.1))
        with pytest.raises(CallTimeoutError):
            await client.submit("toy.run")
        await client.close()
        await ended.wait()


@pytest.mark.parametrize("url", ["localhost:4000", "ftp://x", "", "http://"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url)
    with pytest.raises(ValueError, match="address"):
        SyncClient(url)


def test_delays_double_up_to_the_longest_and_never_vanish() -> None:
    timing = Timing(first_delay=1, longest_delay=8)
    for delay, bound in zip(islice(timing.delays(), 8), (1, 2, 4, 8, 8, 8, 8, 8), strict=True):
        assert bound / 2 <= delay <= bound
