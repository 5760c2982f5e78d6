"""Many raw WebSockets in one process: what a client library keeps for each would be most of the memory."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

_HANDSHAKE = (
    "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_AT_ONCE = 100
"""Handshakes under way."""


@dataclass
class Member:
    """One socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def push(self, message: Sequence[object]) -> None:
        """Send one masked text frame (RFC 6455, 5.2); a mask of zero leaves the bytes as they are."""
        data = json.dumps(message).encode()
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        self.writer.write(b"\x81" + size + bytes(4) + data)
        await self.writer.drain()

    async def frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        head = await self.reader.readexactly(2)
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return head[0] & 0x0F, await self.reader.readexactly(length)


def room_for(files: int) -> None:
    """Raise the limit of open files of this process and of those that it starts, as far as is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, max(soft, files)) if hard != resource.RLIM_INFINITY else max(soft, files)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < files:
        raise RuntimeError(f"{os.getpid()}: {files} open files are needed, {wanted} are allowed")


async def join(url: str, count: int, topic: str, payload: dict[str, object]) -> list[Member]:
    """Open so many sockets, each joined to ``topic``."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one() -> Member:
        async with gate:
            return await _open(url, topic, payload)

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def close(members: list[Member]) -> None:
    """Close them all."""
    for member in members:
        member.writer.close()


async def _open(url: str, topic: str, payload: dict[str, object]) -> Member:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1 << 14)
    writer.write(_HANDSHAKE.format(host=address.netloc).encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"the handshake was answered {answer[:60]!r}")
    member = Member(reader, writer)
    await member.push(["1", "1", topic, "phx_join", payload])
    _opcode, reply = await member.frame()
    if b'"ok"' not in reply:
        raise RuntimeError(f"the join was answered {reply[:200]!r}")
    return member
