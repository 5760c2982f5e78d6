"""A bare WebSocket of the Channels protocol, for frames that the client would never send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

ANSWER = 10.0  # seconds


class RawSocket:
    """Sends what it is told and reads what comes."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, data: str | bytes) -> None:
        """Send a message as it is."""
        await self.socket.send(data)

    async def ask(self, topic: str, event: str, payload: Any, ref: str = "9") -> dict[str, Any]:
        """Push and return the payload of the reply."""
        await self.send(json.dumps(["1", ref, topic, event, payload]))
        return await self.reply()

    async def reply(self) -> dict[str, Any]:
        """Return the payload of the next reply; other messages are skipped."""
        async with asyncio.timeout(ANSWER):
            while True:
                message = json.loads(await self.socket.recv())
                if message[3] == "phx_reply":
                    return dict(message[4])


@asynccontextmanager
async def raw_socket(
    url: str, query: str = "vsn=2.0.0", topic: str | None = "jobs"
) -> AsyncIterator[RawSocket]:
    """Connect, and join ``topic`` with the reference "1"."""
    address = url.replace("http://", "ws://", 1) + f"/socket/websocket?{query}"
    async with connect(address, max_size=None, compression=None) as socket:
        raw = RawSocket(socket)
        if topic is not None:
            joined = await raw.ask(topic, "phx_join", {}, ref="1")
            assert joined["status"] == "ok", joined
        yield raw
