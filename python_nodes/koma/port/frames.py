"""Frames: a 4-byte big-endian length, then the body. No input or output happens here (sans-IO)."""

from __future__ import annotations

from koma.errors import KomaError
from koma.port.limits import MAX_FRAME

HEADER = 4
"""Bytes of the length, as Erlang's ``{packet, 4}`` has it."""


def frame(body: bytes) -> bytes:
    """Return ``body`` with its length before it."""
    return len(body).to_bytes(HEADER, "big") + body


class FrameBuffer:
    """Cuts a stream of bytes, however it was chopped up, into frames."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._data += data

    def next_frame(self) -> bytes | None:
        """Return the next whole frame, or None where more bytes are needed.

        Raises KomaError ``protocol_error`` as soon as a length over the limit is announced, before its bytes
        come.
        """
        if len(self._data) < HEADER:
            return None
        length = int.from_bytes(self._data[:HEADER], "big")
        if length > self._limit:
            raise KomaError(
                "protocol_error",
                f"a frame of {length} bytes; at most {self._limit} are allowed",
                field="frame",
                value=length,
                bound=self._limit,
            )
        if len(self._data) < HEADER + length:
            return None
        body = bytes(self._data[HEADER : HEADER + length])
        del self._data[: HEADER + length]
        return body

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._data)
