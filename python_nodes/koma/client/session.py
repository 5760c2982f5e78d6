"""The client's side of Phoenix Channels as a state machine without input or output.

The caller hands in what the socket received and writes what the machine returns. It keeps three promises:

* after a reconnect every topic is joined again with the last sequence number that was delivered;
* an event is delivered once: those seen before are dropped, and after a gap the topic is joined again;
* a request that was sent but not answered when the socket broke is reported, never repeated in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from koma.client.errors import RefusedError
from koma.client.frames import Frame, decode, encode


@dataclass(frozen=True, slots=True)
class Joined:
    """The server accepted the join of ``topic``."""

    topic: str
    response: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """The server refused the join of ``topic``, which is forgotten."""

    topic: str
    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """The reply to the push with this ``ref``."""

    ref: str
    ok: bool
    response: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message of a topic, in order and once."""

    topic: str
    event: str
    payload: Mapping[str, Any] | bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """The topic must be joined again: the channel crashed, or an event is missing."""

    topic: str
    why: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The server closed the topic for good."""

    topic: str


# Refusals that say "not now": a join is made again, a connection, too.
CROWDED = frozenset({"rate_limited", "limit_reached"})

Occurrence = Joined | JoinRefused | Answered | Delivered | Broken | Closed


@dataclass(slots=True)
class Subscription:
    """A topic that the client wants; ``after`` is the last sequence number that was delivered.

    A ``broken`` one must be joined again; until then everything that comes for it is stale.
    """

    topic: str
    params: Mapping[str, Any]
    after: int = 0
    join_ref: str | None = None
    broken: bool = False

    def join_params(self) -> dict[str, Any]:
        """Return the payload of the next join."""
        return {**self.params, "after": self.after} if self.after else dict(self.params)


@dataclass(slots=True)
class Session:
    """Topics, references and unanswered pushes of one client, over any number of connections."""

    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    heartbeat_ref: str | None = None
    max_frame: int | None = None  # bytes, once the server has told it
    _count: int = 0

    def subscribe(self, topic: str, params: Mapping[str, Any], after: int = 0) -> str:
        """Want ``topic`` from now on; return the join frame."""
        self.subscriptions[topic] = Subscription(topic, params, after)
        return self.join(topic)

    def join(self, topic: str) -> str:
        """Return a join frame with the last sequence number; later messages of an earlier join are stale."""
        subscription = self.subscriptions[topic]
        ref = self._next_ref()
        subscription.join_ref, subscription.broken = ref, False
        return encode(Frame(ref, ref, topic, "phx_join", subscription.join_params()))

    def leave(self, topic: str) -> str | None:
        """Forget ``topic``; return the leave frame, or None where it was not joined."""
        subscription = self.subscriptions.pop(topic, None)
        if subscription is None:
            return None
        return encode(Frame(subscription.join_ref, self._next_ref(), topic, "phx_leave", {}))

    def push(self, topic: str, event: str, payload: Mapping[str, Any]) -> tuple[str, str]:
        """Return reference and frame of a request on a joined topic.

        Raises ``RefusedError`` where the frame exceeds the limit: the server could not tell whose it was.
        """
        ref = self._next_ref()
        frame = encode(Frame(self.subscriptions[topic].join_ref, ref, topic, event, payload))
        size = len(frame.encode())
        if self.max_frame is not None and size > self.max_frame:
            message = f"the request has {size} bytes; the server takes at most {self.max_frame}"
            error = {"code": "too_large", "message": message, "field": "frame"}
            raise RefusedError({**error, "value": size, "bound": self.max_frame})
        self.unanswered.add(ref)
        return ref, frame

    def heartbeat(self) -> str | None:
        """Return a heartbeat frame, or None when the last one was not answered: the connection is dead."""
        if self.heartbeat_ref is not None:
            return None
        self.heartbeat_ref = self._next_ref()
        return encode(Frame(None, self.heartbeat_ref, "phoenix", "heartbeat", {}))

    def connected(self) -> list[str]:
        """A socket is open: return the join frames of every wanted topic."""
        return [self.join(topic) for topic in self.subscriptions]

    def disconnected(self) -> set[str]:
        """The socket is gone: return the pushes that will never be answered."""
        lost, self.unanswered, self.heartbeat_ref = self.unanswered, set(), None
        return lost

    def receive(self, data: str | bytes) -> list[Occurrence]:
        """Return what a WebSocket message means; raises ``ProtocolError`` where it is not a frame."""
        frame = decode(data)
        if frame.event == "phx_reply":
            return self._reply(frame)
        subscription = self.subscriptions.get(frame.topic)
        if subscription is None or subscription.broken or frame.join_ref not in (None, subscription.join_ref):
            return []
        if frame.event == "phx_error":
            return self._broken(subscription, "the channel crashed")
        if frame.event == "phx_close":
            del self.subscriptions[frame.topic]
            return [Closed(frame.topic)]
        return self._message(subscription, frame)

    def _message(self, subscription: Subscription, frame: Frame) -> list[Occurrence]:
        seq = None if isinstance(frame.payload, bytes) else frame.payload.get("seq")
        if frame.event == "preview" or not isinstance(seq, int):
            return [Delivered(frame.topic, frame.event, frame.payload)]
        if seq <= subscription.after:
            return []
        if seq > subscription.after + 1:
            return self._broken(subscription, f"event {subscription.after + 1} is missing before {seq}")
        subscription.after = seq
        return [Delivered(frame.topic, frame.event, frame.payload)]

    def _broken(self, subscription: Subscription, why: str) -> list[Occurrence]:
        subscription.broken = True
        return [Broken(subscription.topic, why)]

    def _reply(self, frame: Frame) -> list[Occurrence]:
        payload = frame.payload if isinstance(frame.payload, Mapping) else {}
        response = payload.get("response")
        response = response if isinstance(response, Mapping) else {}
        ok = payload.get("status") == "ok"
        if frame.ref is None:
            return []
        if frame.ref == self.heartbeat_ref:
            self.heartbeat_ref = None
            return []
        subscription = self.subscriptions.get(frame.topic)
        if subscription is not None and frame.ref == subscription.join_ref:
            return self._join_reply(subscription, ok, response)
        if frame.ref not in self.unanswered:
            return []
        self.unanswered.discard(frame.ref)
        return [Answered(frame.ref, ok, response)]

    def _join_reply(
        self, subscription: Subscription, ok: bool, response: Mapping[str, Any]
    ) -> list[Occurrence]:
        if ok:
            return [Joined(subscription.topic, response)]
        if response.get("code") in CROWDED:
            return self._broken(subscription, str(response.get("message")))
        del self.subscriptions[subscription.topic]
        return [JoinRefused(subscription.topic, response)]

    def _next_ref(self) -> str:
        self._count += 1
        return str(self._count)
