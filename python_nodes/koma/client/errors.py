"""What can go wrong between a program and a Koma server, as a tree of exceptions.

::

    ClientError
    ├── ServerUnreachableError   no server answers at the address
    ├── ConnectionLostError      the socket broke after a request was sent; its outcome is unknown
    ├── CallTimeoutError         no answer within the time that the caller gave
    ├── ProtocolError            the server said something that the documentation does not know
    ├── IntegrityError           downloaded bytes do not have the digest that names them
    ├── RefusedError             the server refused a request (code, field, value, bound, retry_after_ms)
    └── WorkError                an accepted job or pipeline ended without a result (code, field, …)
        ├── FailedError
        ├── CancelledError
        └── ExpiredError

Codes are those of ``errors.json``; a code that this version does not know is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of everything that the client raises on purpose."""


class ServerUnreachableError(ClientError):
    """No Koma server answers at ``url``."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"no Koma server answers at {url} ({why}); start one with `koma serve`")
        self.url = url
        self.why = why


class ConnectionLostError(ClientError):
    """The connection broke between a request and its reply: whether it was accepted is not known."""


class CallTimeoutError(ClientError):
    """An answer did not come within ``seconds``."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"no answer to {what} within {seconds:g} s")
        self.what = what
        self.seconds = seconds


class ProtocolError(ClientError):
    """The server sent something that docs/api.md does not describe."""


class IntegrityError(ClientError):
    """Bytes do not have the SHA-256 digest that names them."""


class CodedError(ClientError):
    """An error value of the server: ``code`` and what was wrong with which input."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code = str(error.get("code", "internal"))
        self.message = str(error.get("message") or error.get("reason") or self.code)
        self.field: str | None = error.get("field")
        self.value: Any = error.get("value")
        self.bound: Any = error.get("bound")
        self.retry_after_ms: int | None = error.get("retry_after_ms")
        super().__init__(self.describe())

    def describe(self) -> str:
        """Return code and message in one line, with field, value and bound where they are known."""
        details = {"field": self.field, "value": self.value, "bound": self.bound}
        known = ", ".join(f"{name} {value!r}" for name, value in details.items() if value is not None)
        return f"{self.code}: {self.message}" + (f" ({known})" if known else "")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, in the shape of the public interface."""
        names = ("code", "message", "field", "value", "bound", "retry_after_ms")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class RefusedError(CodedError):
    """The server refused a request; nothing was accepted."""


class WorkError(CodedError):
    """An accepted job or pipeline ended without a result; ``id`` is its id, ``stage`` the stage at fault."""

    def __init__(self, id: str, error: Mapping[str, Any], stage: str | None = None) -> None:
        self.id = id
        self.stage = stage
        super().__init__(error)

    def describe(self) -> str:
        """Return the error with the stage that it happened in."""
        told = super().describe()
        return f"stage {self.stage!r}: {told}" if self.stage else told


class FailedError(WorkError):
    """It ran and failed."""


class CancelledError(WorkError):
    """It was cancelled, by this client or another one."""


class ExpiredError(WorkError):
    """Its deadline passed."""
