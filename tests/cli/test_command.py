"""The `koma` command as a process, where no server is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


def koma(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python_nodes"), "COLUMNS": "200", "NO_COLOR": "1"}
    env.update(variables)
    command = [sys.executable, "-m", "koma.cli.main", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    done = koma("--help")
    assert done.returncode == 0
    for word in ("serve", "demo", "understand", "image", "video", "story", "jobs", "train", "130"):
        assert word in done.stdout


def test_starting_the_command_imports_no_torch() -> None:
    script = (
        "import sys, koma.cli.main; sys.exit(any(name in sys.modules for name in ('torch', 'PIL', 'numpy')))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python_nodes")}
    assert subprocess.run([sys.executable, "-c", script], env=env, timeout=60, check=False).returncode == 0


def test_an_absent_server_ends_with_3_and_its_address(tmp_path: Path) -> None:
    done = koma("image", "a cat", "--server", NOWHERE, cwd=tmp_path)
    assert done.returncode == 3
    assert NOWHERE in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_absent_server_is_one_json_line_for_a_script(tmp_path: Path) -> None:
    done = koma("jobs", "--server", NOWHERE, "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert json.loads(done.stdout) | {"event": "error", "code": "unreachable", "exit": 3} == json.loads(
        done.stdout
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("image",), ("image", "a cat", "--steps", "many"), ("image", "a cat", "--size", "big"),
        ("paint", "a cat"),
        ("understand", "absent.mp4"), ("story", "absent.mp4"), ("video", "a cat", "--image", "absent.png"),
        ("image", "a cat", "--server", "localhost"), ("serve", "--port", "70000"),
        ("jobs", "--api-key", "two words"), ("keys", "new"), ("keys", "new", "a/b"),
        ("keys", "new", "a", "rates=5"), ("keys", "new", "a", "rate=5 x"),
    ],
)  # fmt: skip
def test_wrong_arguments_end_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = koma(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Error" in done.stderr


def test_a_file_that_is_there_is_not_replaced_and_no_server_is_asked(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"old")
    done = koma("image", "a cat", "--server", NOWHERE, cwd=tmp_path)
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (tmp_path / "image.png").read_bytes() == b"old"


def test_train_is_passed_on_with_its_own_help() -> None:
    done = koma("train", "vq", "--help")
    assert done.returncode == 0
    assert "--minutes" in done.stdout


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_server_that_cannot_be_found_ends_with_3_and_where_it_was_looked_for(
    tmp_path: Path, command: str
) -> None:
    done = koma(command, cwd=tmp_path, KOMA_HOME=str(tmp_path))
    assert done.returncode == 3
    assert str(tmp_path) in done.stderr
    assert list(tmp_path.iterdir()) == []
