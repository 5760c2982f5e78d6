"""The node's end of the connection as a pure state machine: bytes in, messages out, and the other way
round."""

from __future__ import annotations

from enum import Enum

from koma.errors import KomaError
from koma.port.codec import decode_gateway, encode
from koma.port.frames import FrameBuffer, frame
from koma.port.limits import PROTOCOL_VERSION
from koma.port.messages import GatewayMessage, Hello, NodeMessage


class Phase(Enum):
    """Where a connection is in its life."""

    GREETING = "waiting for hello"
    OPEN = "open"
    BROKEN = "broken"


class Connection:
    """Enforces the order of messages: one ``hello`` of our protocol version, then anything else."""

    def __init__(self) -> None:
        self.phase = Phase.GREETING
        self._frames = FrameBuffer()

    def feed(self, data: bytes) -> None:
        """Take bytes of the gateway as they came."""
        self._frames.feed(data)

    def next_message(self) -> GatewayMessage | None:
        """Return the next message, or None where more bytes are needed.

        Raises KomaError ``protocol_error`` or ``protocol_mismatch``; afterwards the connection is of no use.
        """
        if self.phase is Phase.BROKEN:
            return None
        try:
            body = self._frames.next_frame()
            return None if body is None else self._checked(decode_gateway(body))
        except KomaError:
            self.phase = Phase.BROKEN
            raise

    def end(self) -> None:
        """Note the end of input; raises KomaError ``protocol_error`` where it came within a frame."""
        if self.phase is not Phase.BROKEN and self._frames.pending:
            self.phase = Phase.BROKEN
            raise KomaError(
                "protocol_error", f"the input ended within a frame, after {self._frames.pending} bytes of it"
            )

    def send(self, message: NodeMessage) -> bytes:
        """Return the frame of ``message``; raises KomaError ``too_large`` over the limit."""
        return frame(encode(message))

    def _checked(self, message: GatewayMessage) -> GatewayMessage:
        if self.phase is Phase.OPEN and isinstance(message, Hello):
            raise KomaError("protocol_error", "hello came twice", field="type", value="hello")
        if self.phase is Phase.GREETING:
            self._greet(message)
        return message

    def _greet(self, message: GatewayMessage) -> None:
        if not isinstance(message, Hello):
            name = type(message).__name__.lower()
            raise KomaError(
                "protocol_error", f"the first message must be hello, not {name}", field="type", value=name
            )
        if message.protocol != PROTOCOL_VERSION:
            raise KomaError(
                "protocol_mismatch",
                f"the gateway speaks protocol {message.protocol}, this node {PROTOCOL_VERSION}",
                field="protocol",
                value=message.protocol,
                bound=PROTOCOL_VERSION,
            )
        self.phase = Phase.OPEN
