"""WebSocket messages ⇄ frames of the Phoenix Channels protocol 2.0.0. Pure: no socket, no clock.

Text frames are the JSON array ``[join_ref, ref, topic, event, payload]``. Binary frames (server to client
only) begin with a kind, then one length byte for each string, then the strings and the data; see
https://hexdocs.pm/phoenix/writing_a_channels_client.html and Phoenix's ``v2_json_serializer.ex``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koma.client.errors import ProtocolError

PUSH, REPLY, BROADCAST = 0, 1, 2
# Names of the strings in the header of each kind of binary frame, in order.
HEADERS: dict[int, tuple[str, ...]] = {
    PUSH: ("join_ref", "topic", "event"),
    REPLY: ("join_ref", "ref", "topic", "status"),
    BROADCAST: ("topic", "event"),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a channel; ``payload`` is an object, or bytes in a binary push."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: Mapping[str, Any] | bytes


def encode(frame: Frame) -> str:
    """Return the text frame; JSON has no NaN or infinity, so they raise ``ValueError`` here."""
    if isinstance(frame.payload, bytes):
        raise TypeError("the client pushes JSON only")
    parts = [frame.join_ref, frame.ref, frame.topic, frame.event, dict(frame.payload)]
    return json.dumps(parts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def decode(data: str | bytes) -> Frame:
    """Return the frame of one WebSocket message; raise :class:`ProtocolError` where it is not one."""
    return decode_binary(data) if isinstance(data, bytes) else decode_text(data)


def decode_text(text: str) -> Frame:
    """Decode a JSON frame; refs may be numbers, which are turned into strings."""
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a text frame is not JSON: {text[:80]!r}") from error
    if not isinstance(parts, list) or len(parts) != 5:
        raise ProtocolError(f"a text frame is not an array of five: {text[:80]!r}")
    join_ref, ref, topic, event, payload = parts
    if not isinstance(topic, str) or not isinstance(event, str):
        raise ProtocolError(f"topic and event of a frame must be strings: {text[:80]!r}")
    return Frame(_ref(join_ref), _ref(ref), topic, event, payload if isinstance(payload, dict) else {})


def decode_binary(data: bytes) -> Frame:
    """Decode a binary push, reply or broadcast."""
    names = HEADERS.get(data[0]) if data else None
    if names is None:
        raise ProtocolError(f"a binary frame of unknown kind: {data[:16]!r}")
    lengths = data[1 : 1 + len(names)]
    offset = 1 + len(names)
    if len(data) < offset + sum(lengths):
        raise ProtocolError(f"a binary frame is cut off: {data[:16]!r}")
    texts: dict[str, str] = {}
    for name, length in zip(names, lengths, strict=True):
        texts[name] = _text(data[offset : offset + length])
        offset += length
    return _binary_frame(texts, data[offset:])


def _binary_frame(texts: dict[str, str], body: bytes) -> Frame:
    join_ref, ref = texts.get("join_ref") or None, texts.get("ref") or None
    if "status" in texts:
        payload = {"status": texts["status"], "response": body}
        return Frame(join_ref, ref, texts["topic"], "phx_reply", payload)
    return Frame(join_ref, ref, texts["topic"], texts["event"], body)


def split_preview(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and image of a binary preview, ``<<header_length::32, header::json, image::bytes>>``."""
    if len(data) < 4:
        raise ProtocolError("a binary preview is shorter than its length field")
    (length,) = struct.unpack_from(">I", data)
    try:
        header = json.loads(data[4 : 4 + length]) if len(data) >= 4 + length else None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise ProtocolError("the header of a binary preview is not a JSON object")
    return header, data[4 + length :]


def _ref(value: object) -> str | None:
    return None if value is None else str(value)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("a string of a binary frame is not UTF-8") from error
