"""``python -m koma.provenance.verify``: examine one file after another for the gateway.

Questions come on the standard input and answers leave on the standard output, each as a length of four
bytes and JSON. The gateway ends the process when a file takes too long, and starts it anew.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from koma.errors import KomaError
from koma.port.process import die_with_parent, set_name
from koma.provenance import settings
from koma.provenance.mark import pattern
from koma.provenance.settings import Settings
from koma.provenance.signing import chain, keys
from koma.provenance.signing.chain import Chain
from koma.provenance.verify import report

_LENGTH = struct.Struct(">I")


def main() -> None:
    """Answer until the input ends."""
    die_with_parent()
    set_name("koma:verify")
    questions = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    told = settings.from_environment() or Settings(Path("data/provenance"))
    keys.prepare(told.folder)
    key = pattern.of_key((told.folder / keys.MARK_KEY).read_bytes())
    trusted = _chain(told)
    while (question := _read(questions)) is not None:
        _write(answers, _answer(question, key, trusted))


def _chain(told: Settings) -> Chain | None:
    """Whom this server trusts: itself. Without a chain that works every statement is one of strangers."""
    try:
        return chain.load(told)
    except KomaError as error:
        print(error.message, file=sys.stderr)
        return None


def _answer(question: dict[str, Any], key: pattern.Pattern, trusted: Chain | None) -> dict[str, Any]:
    try:
        return report.examine(Path(question["path"]), question["media_type"], key, trusted)
    except KomaError as error:
        return {"error": error.as_dict()}
    except Exception as error:
        return {"error": {"code": "internal", "message": f"{type(error).__name__}: {error}"[:300]}}


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    text = stream.read(_LENGTH.unpack(head)[0])
    read: dict[str, Any] = json.loads(text)
    return read


def _write(stream: BinaryIO, answer: dict[str, Any]) -> None:
    text = json.dumps(answer, ensure_ascii=False, default=str).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    stream.flush()


if __name__ == "__main__":
    main()
