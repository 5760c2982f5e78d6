"""Frames of the Channels protocol: what the client writes and what it accepts."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koma.client.errors import ProtocolError
from koma.client.frames import BROADCAST, HEADERS, PUSH, REPLY, Frame, decode, encode, split_preview

names = st.text(max_size=60).filter(lambda text: len(text.encode()) <= 255)
refs = st.one_of(st.none(), st.integers(0, 10**6).map(str))
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
payloads = st.dictionaries(st.text(), values, max_size=4)


def binary(kind: int, *texts: str, data: bytes) -> bytes:
    """Write a binary frame as Phoenix's V2 serializer does."""
    encoded = [text.encode() for text in texts]
    return bytes([kind, *map(len, encoded)]) + b"".join(encoded) + data


@given(refs, refs, names, names, payloads)
def test_a_text_frame_comes_back_as_it_was(
    join_ref: str | None, ref: str | None, topic: str, event: str, payload: dict[str, object]
) -> None:
    frame = Frame(join_ref, ref, topic, event, payload)
    assert decode(encode(frame)) == frame


def test_the_bytes_of_a_join_are_those_of_the_official_client() -> None:
    frame = Frame("5", "5", "job:1", "phx_join", {"after": 3})
    assert encode(frame) == '["5","5","job:1","phx_join",{"after":3}]'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_not_sent(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(Frame(None, "1", "jobs", "submit", {"steps": value}))


def test_refs_that_come_as_numbers_are_strings() -> None:
    assert decode('[4,7,"t","e",{}]') == Frame("4", "7", "t", "e", {})


@given(names, names, names, st.binary())
def test_a_binary_push_keeps_its_data(join_ref: str, topic: str, event: str, data: bytes) -> None:
    frame = decode(binary(PUSH, join_ref, topic, event, data=data))
    assert frame == Frame(join_ref or None, None, topic, event, data)


@given(names, names, st.binary())
def test_a_binary_broadcast_has_no_refs(topic: str, event: str, data: bytes) -> None:
    assert decode(binary(BROADCAST, topic, event, data=data)) == Frame(None, None, topic, event, data)


def test_a_binary_reply_has_status_and_response() -> None:
    frame = decode(binary(REPLY, "5", "12", "job:1", "ok", data=b"\x01\x02"))
    assert frame == Frame("5", "12", "job:1", "phx_reply", {"status": "ok", "response": b"\x01\x02"})


@pytest.mark.parametrize(
    "data",
    ["", "{", "null", "[]", '["1","2","t"]', '["1","2",3,"e",{}]', '["1","2","t",null,{}]', "[" * 100_000],
)
def test_text_that_is_no_frame_is_named(data: str) -> None:
    with pytest.raises(ProtocolError, match="frame"):
        decode(data)


@pytest.mark.parametrize(
    "data", [b"", b"\x07abc", b"\x00\x01", b"\x00\x05\x05\x05abc", b"\x02\x01\x01\xff\xfe"]
)
def test_bytes_that_are_no_frame_are_named(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@given(st.binary(max_size=40))
def test_no_bytes_break_the_decoder(data: bytes) -> None:
    try:
        frame = decode(data)
    except ProtocolError:
        return
    assert data[0] in HEADERS
    assert isinstance(frame.topic, str)


@given(payloads, st.binary())
def test_a_binary_preview_splits_into_header_and_image(header: dict[str, object], image: bytes) -> None:
    text = json.dumps(header).encode()
    assert split_preview(struct.pack(">I", len(text)) + text + image) == (header, image)


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x00", struct.pack(">I", 9) + b"{}", struct.pack(">I", 2) + b"[]"]
)
def test_a_preview_without_a_header_is_named(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="preview"):
        split_preview(data)
