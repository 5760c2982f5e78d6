"""Exit codes of the `koma` command, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum

from koma.client import (
    ClientError,
    CodedError,
    IntegrityError,
    RefusedError,
    ServerUnreachableError,
    WorkError,
)
from koma.client.errors import CancelledError


class Exit(IntEnum):
    """What a script may rely on; the same table is in docs/cli.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    OUTPUT = 5
    DENIED = 6
    CANCELLED = 130
    TERMINATED = 143


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "the job failed or its deadline passed",
    Exit.USAGE: "wrong arguments, or input that the server does not take",
    Exit.UNREACHABLE: "no server answers, or one cannot be started",
    Exit.REFUSED: "no work is taken now (overloaded, unavailable, draining, a limit of the key); try later",
    Exit.OUTPUT: "a result could not be written",
    Exit.DENIED: "the server asks for an API key, or for another one (unauthorized, forbidden)",
    Exit.CANCELLED: "cancelled, by Ctrl-C or on the server",
    Exit.TERMINATED: "ended by SIGTERM; the job was cancelled",
}

# Codes of errors.json that say "not now" rather than "not this".
NOT_NOW = frozenset(
    {"overloaded", "unavailable", "draining", "storage_full", "internal", "timeout"}
    | {"rate_limited", "limit_reached", "quota_exceeded"}
)
DENIED = frozenset({"unauthorized", "forbidden"})


def exit_code(error: ClientError | OSError) -> Exit:
    """Return the exit code that tells this error."""
    match error:
        case OSError():
            return Exit.OUTPUT
        case CancelledError():
            return Exit.CANCELLED
        case WorkError():
            return Exit.FAILED
        case RefusedError(code=code) if code in DENIED:
            return Exit.DENIED
        case RefusedError(code=code):
            return Exit.REFUSED if code in NOT_NOW else Exit.USAGE
        case ServerUnreachableError():
            return Exit.UNREACHABLE
        case CodedError() | IntegrityError():
            return Exit.FAILED
        case _:
            return Exit.UNREACHABLE


def table() -> str:
    """Return the exit codes as lines for `koma --help`."""
    return "\n".join(f"{code.value:>4}  {meaning}" for code, meaning in MEANINGS.items())
