"""Framing: a stream of bytes, however it was chopped up, gives the same frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koma.errors import KomaError
from koma.port.frames import HEADER, FrameBuffer, frame
from koma.port.limits import MAX_FRAME


def all_frames(buffer: FrameBuffer) -> list[bytes]:
    found = []
    while (body := buffer.next_frame()) is not None:
        found.append(body)
    return found


def test_a_frame_that_comes_byte_by_byte_is_found_with_its_last_byte() -> None:
    buffer, data = FrameBuffer(), frame(b"koma")
    for byte in data[:-1]:
        buffer.feed(bytes([byte]))
        assert buffer.next_frame() is None
    buffer.feed(data[-1:])
    assert all_frames(buffer) == [b"koma"]


def test_many_frames_in_one_read_are_all_found() -> None:
    buffer = FrameBuffer()
    buffer.feed(b"".join(frame(bytes([n])) for n in range(100)))
    assert all_frames(buffer) == [bytes([n]) for n in range(100)]


def test_one_and_a_half_frames_give_one_now_and_one_later() -> None:
    buffer, second = FrameBuffer(), frame(b"second")
    buffer.feed(frame(b"first") + second[:5])
    assert all_frames(buffer) == [b"first"]
    assert buffer.pending == 5
    buffer.feed(second[5:])
    assert all_frames(buffer) == [b"second"]
    assert buffer.pending == 0


def test_an_empty_frame_is_a_frame() -> None:
    buffer = FrameBuffer()
    buffer.feed(frame(b"") + frame(b"x"))
    assert all_frames(buffer) == [b"", b"x"]


def test_a_frame_of_exactly_the_limit_passes() -> None:
    buffer = FrameBuffer()
    buffer.feed(frame(bytes(MAX_FRAME)))
    assert [len(body) for body in all_frames(buffer)] == [MAX_FRAME]


def test_a_frame_over_the_limit_is_refused_as_soon_as_it_is_announced() -> None:
    buffer = FrameBuffer()
    buffer.feed((MAX_FRAME + 1).to_bytes(HEADER, "big"))
    with pytest.raises(KomaError, match=str(MAX_FRAME)) as error:
        buffer.next_frame()
    assert (error.value.code, error.value.value, error.value.bound) == (
        "protocol_error",
        MAX_FRAME + 1,
        MAX_FRAME,
    )


def test_plain_text_is_taken_for_a_frame_over_the_limit() -> None:
    buffer = FrameBuffer()
    buffer.feed(b"GET / HTTP/1.1\r\n")
    with pytest.raises(KomaError):
        buffer.next_frame()


@given(st.lists(st.binary(max_size=40), max_size=20), st.lists(st.integers(1, 17), min_size=1))
def test_however_the_stream_is_chopped_up_the_frames_are_the_same(
    bodies: list[bytes], cuts: list[int]
) -> None:
    stream, buffer, found = b"".join(map(frame, bodies)), FrameBuffer(), []
    while stream:
        for size in cuts:
            buffer.feed(stream[:size])
            stream = stream[size:]
            found += all_frames(buffer)
    assert found == bodies
