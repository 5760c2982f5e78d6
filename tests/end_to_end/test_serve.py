"""`koma serve` and `koma demo`: servers that the command starts and stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.end_to_end.command import environment

PATIENCE = 60.0  # seconds


def eventually(path: Path) -> str:
    """Return the text of a file once it is there."""
    give_up = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < give_up, f"{path} was not written"
        time.sleep(0.05)
    return path.read_text()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_runs_the_server_until_a_signal_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    port_file = tmp_path / "port"
    process = subprocess.Popen(
        [sys.executable, "-m", "koma.cli.main", "serve", "--port", "0", "--data", str(tmp_path / "data"),
         "--models", "toy"],
        env=environment(KOMA_PORT_FILE=str(port_file)), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{eventually(port_file)}"
        assert httpx.get(f"{url}/health/live").status_code == 200
        children = [
            int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ]
        assert children
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        assert not any(alive(pid) for pid in children)
    finally:
        process.kill()


def test_serve_on_a_port_that_is_taken_fails_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "koma.cli.main", "serve", "--port", port, "--models", "toy"]
        done = subprocess.run(
            [*command, "--data", str(tmp_path / "data")],
            env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert port in done.stdout + done.stderr


def test_the_demo_writes_its_three_files_says_where_and_stops_its_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "koma.cli.main", "demo", "--out", "story"],
        cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["story/caption.txt", "story/image.png", "story/video.mp4"]
    for name in done.stdout.split():
        assert (tmp_path / name).stat().st_size > 0
    url = done.stderr.partition("server: ")[2].split()[0]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health/live")
