"""One WebSocket that comes back by itself: the input and output around :mod:`koma.client.session`."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from koma.client.errors import (
    CallTimeoutError,
    ClientError,
    ConnectionLostError,
    ProtocolError,
    RefusedError,
    ServerUnreachableError,
)
from koma.client.session import (
    CROWDED,
    Answered,
    Broken,
    Closed,
    Delivered,
    Joined,
    JoinRefused,
    Occurrence,
    Session,
)
from koma.client.topic import Parser, Topic

# The largest message that is accepted: a preview in base64 with room to spare.
MAX_MESSAGE = 16 * 1024 * 1024
# A topic that breaks this often without one event in between is given up.
MAX_BREAKS = 8
MESSAGE_TOO_BIG = 1009  # close code of RFC 6455
POLICY_VIOLATION = 1008
CLOSED = "the server closed the connection"
POLICIES = {"unauthorized": {"code": "unauthorized", "message": "the API key was taken away"}}


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: for an answer, between heartbeats, for one attempt to connect, for all attempts together."""

    answer: float = 30.0
    heartbeat: float = 20.0
    connect: float = 10.0
    reconnect_for: float = 60.0
    first_delay: float = 0.1
    longest_delay: float = 5.0

    def delays(self) -> Iterator[float]:
        """Yield doubling delays with jitter, so that many clients do not come back at the same moment."""
        delay = self.first_delay
        while True:
            yield delay * random.uniform(0.5, 1.0)
            delay = min(delay * 2, self.longest_delay)


class Connection:
    """Requests and topics over one WebSocket; see :class:`~koma.client.session.Session` for its promises."""

    def __init__(self, url: str, headers: Mapping[str, str], timing: Timing) -> None:
        self.url = url
        self._headers = dict(headers)
        self._timing = timing
        self._session = Session()
        self._topics: dict[str, Topic] = {}
        self._calls: dict[str, asyncio.Future[Answered]] = {}
        self._socket: ClientConnection | None = None
        self._failure: ClientError | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def failed(self) -> bool:
        """Whether the connection was given up; a new one must be made."""
        return self._failure is not None

    async def open(self) -> None:
        """Connect once, and stay connected in the background; raise ``ServerUnreachableError`` at once."""
        self._spawn(self._run(await self._connect()))

    async def close(self) -> None:
        """Close the socket and stop; topics that are still open fail."""
        socket = self._socket
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if socket is not None:
            await socket.close()
        self._fail(ConnectionLostError("the client was closed"))

    async def subscribe(
        self, name: str, params: Mapping[str, Any], parse: Parser | None, *, after: int = 0
    ) -> Topic:
        """Join topic ``name``; raise ``RefusedError`` where the server does not let us."""
        if name in self._topics:
            raise ValueError(f"topic {name!r} is joined already")
        self._raise_failure()
        topic = self._topics[name] = Topic(name, parse)
        await self._send(self._session.subscribe(name, params, after))
        try:
            async with asyncio.timeout(self._timing.answer):
                await topic.wait_joined()
        except TimeoutError:
            await self.unsubscribe(name)
            raise CallTimeoutError(f"the join of {name}", self._timing.answer) from None
        return topic

    async def unsubscribe(self, name: str) -> None:
        """Leave topic ``name``, if it is joined."""
        self._topics.pop(name, None)
        frame = self._session.leave(name)
        if frame is not None:
            await self._send(frame)

    async def call(self, topic: Topic, event: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """Push a request on a joined topic and return the response.

        Raises ``RefusedError``, ``CallTimeoutError``, or ``ConnectionLostError`` where the socket broke
        between request and reply. While the socket is away the request waits for it to come back.
        """
        try:
            async with asyncio.timeout(self._timing.answer):
                await topic.wait_joined()
                answer = await self._push(topic.name, event, payload)
        except TimeoutError:
            raise CallTimeoutError(event, self._timing.answer) from None
        if not answer.ok:
            raise RefusedError(answer.response)
        return answer.response

    async def _push(self, topic: str, event: str, payload: Mapping[str, Any]) -> Answered:
        ref, frame = self._session.push(topic, event, payload)
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._calls[ref] = answer
        try:
            await self._send(frame)
            return await answer
        finally:
            self._calls.pop(ref, None)

    async def _send(self, frame: str) -> None:
        # A socket that just broke is noticed by the reader, which joins again and fails what was lost.
        if self._socket is not None:
            with suppress(ConnectionClosed):
                await self._socket.send(frame)

    async def _connect(self) -> ClientConnection:
        try:
            return await connect(
                self.url,
                additional_headers=self._headers,
                open_timeout=self._timing.connect,
                ping_interval=None,  # the protocol has its own heartbeat
                compression=None,  # previews are compressed images
                max_size=MAX_MESSAGE,
            )
        except InvalidStatus as error:
            raise _refused_handshake(self.url, error) from error
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError, EOFError) as error:
            raise ServerUnreachableError(self.url, str(error) or type(error).__name__) from error

    async def _run(self, socket: ClientConnection) -> None:
        try:
            while True:
                await self._serve(socket)
                self._lost(socket.close_code, socket.close_reason or "")
                socket = await self._reconnect()
        except ClientError as error:
            self._fail(error)
            await socket.close()
        except Exception as error:
            # Nobody may wait for ever because of a fault in here.
            self._fail(ProtocolError(f"the client cannot go on: {error!r}"))
            raise

    async def _serve(self, socket: ClientConnection) -> None:
        self._socket = socket
        heartbeat = asyncio.create_task(self._beat(socket))
        try:
            for frame in self._session.connected():
                await socket.send(frame)
            async for message in socket:
                for occurrence in self._session.receive(message):
                    self._take(occurrence)
        except ConnectionClosed:
            pass
        finally:
            heartbeat.cancel()
            self._socket = None

    async def _beat(self, socket: ClientConnection) -> None:
        while True:
            await asyncio.sleep(self._timing.heartbeat)
            frame = self._session.heartbeat()
            if frame is None:
                socket.transport.abort()
                return
            with suppress(ConnectionClosed):
                await socket.send(frame)

    async def _reconnect(self) -> ClientConnection:
        clock = asyncio.get_running_loop()
        give_up = clock.time() + self._timing.reconnect_for
        for delay in self._timing.delays():
            await asyncio.sleep(delay)
            try:
                return await self._connect()
            except (ServerUnreachableError, RefusedError) as error:
                final = isinstance(error, RefusedError) and error.code not in CROWDED
                if final or clock.time() >= give_up:
                    raise
        raise AssertionError("the delays never end")

    def _take(self, occurrence: Occurrence) -> None:
        match occurrence:
            case Answered(ref=ref):
                self._answer(ref, occurrence)
            case Delivered(topic=name, event=event, payload=payload) if name in self._topics:
                self._topics[name].put(event, payload)
            case Joined(topic=name, response=response) if name in self._topics:
                self._learn_limits(response)
                self._topics[name].joined(response)
            case JoinRefused(topic=name, error=error) if name in self._topics:
                self._topics.pop(name).fail(RefusedError(error))
            case Closed(topic=name) if name in self._topics:
                self._topics.pop(name).fail(ProtocolError(f"the server closed topic {name}"))
            case Broken(topic=name, why=why) if name in self._topics:
                self._rejoin_later(self._topics[name], why)

    def _learn_limits(self, response: Mapping[str, Any]) -> None:
        limits = response.get("limits")
        if isinstance(limits, Mapping) and isinstance(limits.get("frame_bytes"), int):
            self._session.max_frame = limits["frame_bytes"]

    def _answer(self, ref: str, answer: Answered) -> None:
        call = self._calls.get(ref)
        if call is not None and not call.done():
            call.set_result(answer)

    def _rejoin_later(self, topic: Topic, why: str) -> None:
        topic.left()
        topic.breaks += 1
        if topic.breaks > MAX_BREAKS:
            topic.fail(ProtocolError(f"topic {topic.name} cannot be joined: {why}"))
        else:
            self._spawn(self._rejoin(topic.name, topic.breaks))

    async def _rejoin(self, name: str, breaks: int) -> None:
        delays = self._timing.delays()
        for _ in range(breaks - 1):
            next(delays)
        await asyncio.sleep(next(delays))
        if name in self._topics and self._session.subscriptions[name].broken:
            await self._send(self._session.join(name))

    def _lost(self, code: int | None, reason: str) -> None:
        """Fail the requests that will not be answered; topics wait for the next connection."""
        for topic in self._topics.values():
            topic.left()
        error: ClientError = ConnectionLostError(
            f"the connection was closed ({code} {reason})".replace(" )", ")")
        )
        if code == MESSAGE_TOO_BIG:
            error = RefusedError(
                {"code": "too_large", "message": f"the request exceeds the frame limit: {reason}"}
            )
        for ref in self._session.disconnected():
            call = self._calls.get(ref)
            if call is not None and not call.done():
                call.set_exception(error)
        if code == POLICY_VIOLATION:
            raise RefusedError(POLICIES.get(reason, {"code": "forbidden", "message": reason or CLOSED}))

    def _fail(self, error: ClientError) -> None:
        self._failure = self._failure or error
        for topic in self._topics.values():
            topic.fail(error)
        self._topics.clear()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(error)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refused_handshake(url: str, refusal: InvalidStatus) -> ClientError:
    """Return the coded error in the body of the answer, or what its status says."""
    status = refusal.response.status_code
    try:
        error = json.loads(refusal.response.body or b"")["error"]
    except (ValueError, KeyError, TypeError):
        error = None
    if isinstance(error, dict):
        return RefusedError(error)
    return ServerUnreachableError(url, f"the handshake was answered with HTTP {status}")
