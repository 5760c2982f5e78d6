"""A TCP proxy that a test can break: it stands for the network between client and server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes on between clients and one server, until it is told to cut or to swallow."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._replies_flow = asyncio.Event()
        self._replies_flow.set()
        self.connections = 0
        self.connected = asyncio.Event()
        self.refusing = False
        self.port = 0

    def cut(self) -> None:
        """Break every connection, as a dead network does: without a goodbye."""
        for writer in self._writers:
            writer.transport.abort()

    def swallow(self) -> None:
        """Keep the connections and let nothing through, in either direction."""
        self._flows.clear()

    def swallow_replies(self) -> None:
        """Let through what the clients send, and nothing of what the server answers."""
        self._replies_flow.clear()

    def flow(self) -> None:
        """Let bytes through again."""
        self._flows.set()
        self._replies_flow.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection in the background."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.connections += 1
        self.connected.set()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.server)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(
                self._copy(reader, far_writer, self._flows),
                self._copy(far_reader, writer, self._flows, self._replies_flow),
            )
        finally:
            writer.transport.abort()
            far_writer.transport.abort()
            self._writers -= {writer, far_writer}

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *gates: asyncio.Event
    ) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while data := await reader.read(65536):
                for gate in gates:
                    await gate.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """Stand between a client and the server at ``url``."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    between = Proxy(address.hostname, address.port)
    listener = await asyncio.start_server(between.accept, "127.0.0.1", 0)
    between.port = listener.sockets[0].getsockname()[1]
    try:
        yield between
    finally:
        listener.close()
        await between.close()
