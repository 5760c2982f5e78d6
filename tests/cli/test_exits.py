"""Exit codes: what a script may rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from koma.cli.exits import MEANINGS, Exit, exit_code
from koma.client import (
    CallTimeoutError,
    CancelledError,
    ConnectionLostError,
    ExpiredError,
    FailedError,
    IntegrityError,
    ProtocolError,
    RefusedError,
    ServerUnreachableError,
)
from koma.errors import codes

ERRORS = [
    (FailedError("7", {"code": "model_failed"}), Exit.FAILED),
    (ExpiredError("7", {"code": "expired"}), Exit.FAILED),
    (CancelledError("7", {"code": "cancelled"}), Exit.CANCELLED),
    (RefusedError({"code": "out_of_bounds"}), Exit.USAGE),
    (RefusedError({"code": "invalid_media"}), Exit.USAGE),
    (RefusedError({"code": "overloaded", "retry_after_ms": 100}), Exit.REFUSED),
    (RefusedError({"code": "draining"}), Exit.REFUSED),
    (RefusedError({"code": "rate_limited", "retry_after_ms": 100}), Exit.REFUSED),
    (RefusedError({"code": "quota_exceeded"}), Exit.REFUSED),
    (RefusedError({"code": "unauthorized"}), Exit.DENIED),
    (RefusedError({"code": "forbidden"}), Exit.DENIED),
    (ServerUnreachableError("http://x", "refused"), Exit.UNREACHABLE),
    (ConnectionLostError("gone"), Exit.UNREACHABLE),
    (CallTimeoutError("submit", 30), Exit.UNREACHABLE),
    (ProtocolError("what"), Exit.UNREACHABLE),
    (IntegrityError("other bytes"), Exit.FAILED),
    (PermissionError(13, "Permission denied", "a.png"), Exit.OUTPUT),
    (FileExistsError(17, "File exists", "a.png"), Exit.OUTPUT),
]


@pytest.mark.parametrize(
    ("error", "code"), ERRORS, ids=lambda value: getattr(value, "code", None) or str(value)
)
def test_every_error_has_its_exit_code(error: Exception, code: Exit) -> None:
    assert exit_code(error) == code  # type: ignore[arg-type]


@pytest.mark.parametrize("code", codes())
def test_a_refusal_says_not_this_or_not_now(code: str) -> None:
    told = exit_code(RefusedError({"code": code}))
    server_side = codes()[code]["status"] in (429, 503, 507)
    assert told in (Exit.USAGE, Exit.REFUSED, Exit.DENIED)
    assert (told == Exit.DENIED) == (codes()[code]["status"] in (401, 403))
    assert not server_side or told == Exit.REFUSED or code == "out_of_memory"


def test_the_documented_table_is_the_one_in_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code.value} | {meaning} |" in page
