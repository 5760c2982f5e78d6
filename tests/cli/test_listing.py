"""Lists on terminals of several widths."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

# The ids of a cluster are the longest.
LIST = """
from koma.cli import jobs, listing
from koma.client import Job

common = {"state": "completed", "task": "video.understand", "created_at": 1764568000000}
found = [Job(id=id, **common) for id in ("job_vr2bna" + "a" * 26, "job_" + "b" * 26, "短い" + "c" * 20)]
listing.show(found, {"id": lambda job: job.id, "state": lambda job: job.state,
                     "task": lambda job: job.task, "since": jobs.when}, False)
"""
IDS = ["job_vr2bna" + "a" * 26, "job_" + "b" * 26, "短い" + "c" * 20]


def on_terminal(script: str, columns: int) -> str:
    """Return what a script writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**environment, "NO_COLOR": "1", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:
        pass  # how Linux tells that nobody writes any more
    finally:
        os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode()


@pytest.mark.parametrize("columns", [200, 80, 60, 40, 20])
def test_an_id_is_never_cut_nor_broken_however_narrow_the_terminal_is(columns: int) -> None:
    lines = on_terminal(LIST, columns).splitlines()
    assert [line.split()[0] for line in lines if line.lstrip().startswith(("job_", "短"))] == IDS


def test_on_80_columns_an_id_of_a_single_server_shares_one_line_with_everything_else() -> None:
    single = LIST.replace('"job_vr2bna" + "a" * 26, ', "").replace(', "短い" + "c" * 20', ",")
    (line,) = [line for line in on_terminal(single, 80).splitlines() if line.startswith("job_")]
    assert line.split()[:3] == ["job_" + "b" * 26, "completed", "video.understand"]
    assert len(line.split()) == 5


def test_on_80_columns_no_word_of_a_column_is_broken() -> None:
    text = on_terminal(LIST, 80)
    assert text.count("completed") == text.count("video.understand") == len(IDS)
