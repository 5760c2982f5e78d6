"""The order of messages: one hello of our version, then anything but hello."""

from __future__ import annotations

import pytest

from koma.errors import KomaError
from koma.port.codec import encode
from koma.port.connection import Connection, Phase
from koma.port.frames import frame
from koma.port.limits import PROTOCOL_VERSION
from koma.port.messages import GatewayMessage, Hello, Ping, Pong

HELLO = Hello(PROTOCOL_VERSION, "n")


def fed(*messages: GatewayMessage) -> Connection:
    connection = Connection()
    connection.feed(b"".join(frame(encode(message)) for message in messages))
    return connection


def test_after_hello_messages_come_out_in_order() -> None:
    connection = fed(HELLO, Ping(1), Ping(2))
    assert [connection.next_message() for _ in range(4)] == [HELLO, Ping(1), Ping(2), None]
    assert connection.phase is Phase.OPEN


def test_the_first_message_must_be_hello() -> None:
    connection = fed(Ping(1))
    with pytest.raises(KomaError, match="first message must be hello, not ping") as error:
        connection.next_message()
    assert error.value.code == "protocol_error"


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1])
def test_another_version_of_the_protocol_is_a_mismatch(version: int) -> None:
    connection = fed(Hello(version, "n"))
    with pytest.raises(KomaError) as error:
        connection.next_message()
    assert (error.value.code, error.value.value, error.value.bound) == (
        "protocol_mismatch",
        version,
        PROTOCOL_VERSION,
    )


def test_a_second_hello_is_a_violation() -> None:
    connection = fed(HELLO, HELLO)
    connection.next_message()
    with pytest.raises(KomaError, match="twice"):
        connection.next_message()


def test_what_came_before_a_violation_is_delivered_and_nothing_after_it() -> None:
    connection = fed(HELLO, Ping(1))
    connection.feed(frame(b"garbage") + frame(encode(Ping(2))))
    assert [connection.next_message(), connection.next_message()] == [HELLO, Ping(1)]
    with pytest.raises(KomaError):
        connection.next_message()
    assert connection.next_message() is None
    assert connection.phase is Phase.BROKEN


def test_the_end_of_input_within_a_frame_is_a_violation_and_between_frames_is_not() -> None:
    connection = fed(HELLO)
    connection.next_message()
    connection.end()
    connection.feed(b"\x00\x00")
    with pytest.raises(KomaError, match="ended within a frame"):
        connection.end()


def test_a_message_is_sent_as_one_frame() -> None:
    assert Connection().send(Pong(1, 2)) == frame(encode(Pong(1, 2)))
