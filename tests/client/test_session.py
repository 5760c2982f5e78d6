"""The client's state machine: what it promises over any number of broken connections."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from koma.client.session import Answered, Broken, Closed, Delivered, Joined, JoinRefused, Session

TOPIC = "job:7"


def message(join_ref: str | None, event: str, payload: dict[str, Any], ref: str | None = None) -> str:
    return json.dumps([join_ref, ref, TOPIC, event, payload])


def reply(ref: str, status: str = "ok", response: dict[str, Any] | None = None) -> str:
    return message(ref, "phx_reply", {"status": status, "response": response or {}}, ref)


def join_of(frame: str) -> tuple[str, dict[str, Any]]:
    """Return reference and parameters of a join frame."""
    join_ref, ref, topic, event, payload = json.loads(frame)
    assert (topic, event) == (TOPIC, "phx_join")
    assert join_ref == ref
    return join_ref, payload


def joined(session: Session, after: int = 0) -> str:
    """Join the topic and return the reference."""
    ref, _ = join_of(session.subscribe(TOPIC, {"previews": "none"}, after))
    assert session.receive(reply(ref)) == [Joined(TOPIC, {})]
    return ref


def seqs(occurrences: list[Any]) -> list[int]:
    payloads = [item.payload for item in occurrences if isinstance(item, Delivered)]
    return [payload["seq"] for payload in payloads if not isinstance(payload, bytes)]


class Server:
    """The events of one job, and a channel that replays them from where a join asks; the wire may break."""

    def __init__(self, total: int) -> None:
        self.log = list(range(1, total + 1))
        self.join_ref = ""
        self.next = 1

    def joined_with(self, frame: str) -> str:
        self.join_ref, params = join_of(frame)
        self.next = params.get("after", 0) + 1
        return reply(self.join_ref)

    def send(self) -> str | None:
        if self.next > len(self.log):
            return None
        self.next += 1
        return message(self.join_ref, "progress", {"seq": self.next - 1})


@given(st.integers(1, 30), st.lists(st.sampled_from(["send", "lose", "double", "break", "crash", "stale"])))
def test_every_event_is_delivered_once_and_in_order_whatever_breaks(total: int, script: list[str]) -> None:
    session, server = Session(), Server(total)
    got: list[int] = []

    def take(data: str | None) -> None:
        for occurrence in session.receive(data) if data is not None else []:
            if isinstance(occurrence, Broken):
                take(server.joined_with(session.join(TOPIC)))
            got.extend(seqs([occurrence]))

    def reconnect() -> None:
        session.disconnected()
        for frame in session.connected():
            take(server.joined_with(frame))

    take(server.joined_with(session.subscribe(TOPIC, {})))
    for action in script:
        match action:
            case "send":
                take(server.send())
            case "lose":
                server.send()
            case "double":
                data = server.send()
                take(data)
                take(data)
            case "break":
                reconnect()
            case "crash":
                take(message(server.join_ref, "phx_error", {"reason": "channel_crash"}))
            case "stale":
                take(message("stale", "progress", {"seq": len(got) + 1}))
    reconnect()
    while len(got) < total:
        take(server.send())
    assert got == list(range(1, total + 1))


def test_a_rejoin_asks_for_what_comes_after_the_last_event() -> None:
    session = Session()
    ref = joined(session)
    for seq in (1, 2, 3):
        session.receive(message(ref, "progress", {"seq": seq}))
    session.disconnected()
    (frame,) = session.connected()
    assert join_of(frame)[1] == {"previews": "none", "after": 3}


def test_an_event_after_a_gap_is_not_delivered_but_asked_for_again() -> None:
    session = Session()
    ref = joined(session)
    occurrences = session.receive(message(ref, "progress", {"seq": 2}))
    assert occurrences == [Broken(TOPIC, "event 1 is missing before 2")]
    assert session.receive(message(ref, "progress", {"seq": 1})) == []
    assert join_of(session.join(TOPIC))[1] == {"previews": "none"}


def test_a_message_of_an_earlier_join_is_dropped() -> None:
    session = Session()
    old = joined(session)
    new, _ = join_of(session.join(TOPIC))
    assert session.receive(message(old, "progress", {"seq": 1})) == []
    assert seqs(session.receive(message(new, "progress", {"seq": 1}))) == [1]


def test_a_broadcast_without_a_join_ref_is_delivered() -> None:
    session = Session()
    joined(session)
    assert seqs(session.receive(message(None, "progress", {"seq": 1}))) == [1]


def test_previews_have_no_number_and_are_always_delivered() -> None:
    session = Session()
    ref = joined(session, after=5)
    for _ in range(2):
        assert session.receive(message(ref, "preview", {"step": 1, "seq": 1})) != []


def test_a_push_that_was_not_answered_is_reported_when_the_socket_breaks() -> None:
    session = Session()
    joined(session)
    answered, _ = session.push(TOPIC, "cancel", {})
    lost, _ = session.push(TOPIC, "cancel", {})
    assert session.receive(reply(answered, "ok", {"id": "1"})) == [Answered(answered, True, {"id": "1"})]
    assert session.disconnected() == {lost}
    assert session.receive(reply(lost)) == []


def test_a_refused_join_is_told_once_and_not_tried_again() -> None:
    session = Session()
    ref, _ = join_of(session.subscribe(TOPIC, {}))
    error = {"code": "not_found", "message": "no such job"}
    assert session.receive(reply(ref, "error", error)) == [JoinRefused(TOPIC, error)]
    assert session.connected() == []


def test_a_closed_topic_is_not_joined_again() -> None:
    session = Session()
    ref = joined(session)
    assert session.receive(message(ref, "phx_close", {})) == [Closed(TOPIC)]
    assert session.connected() == []


def test_a_topic_that_was_left_is_not_joined_again_and_its_messages_are_dropped() -> None:
    session = Session()
    ref = joined(session)
    frame = session.leave(TOPIC)
    assert frame is not None
    assert json.loads(frame)[3] == "phx_leave"
    assert session.leave(TOPIC) is None
    assert session.connected() == []
    assert session.receive(message(ref, "progress", {"seq": 1})) == []


def test_a_heartbeat_without_an_answer_is_the_last() -> None:
    session = Session()
    first = session.heartbeat()
    assert first is not None
    assert session.heartbeat() is None
    ref = json.loads(first)[1]
    session.receive(json.dumps([None, ref, "phoenix", "phx_reply", {"status": "ok", "response": {}}]))
    assert session.heartbeat() is not None


def test_a_new_connection_starts_with_a_fresh_heartbeat() -> None:
    session = Session()
    session.heartbeat()
    session.disconnected()
    assert session.heartbeat() is not None
