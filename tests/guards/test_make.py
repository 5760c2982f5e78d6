"""What the targets of the Makefile hand to the commands that they run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Stands in for the shell of make: notes what each line would have been run with, and runs nothing.
SHELL = '#!/bin/sh\nprintf "%s\\t%s\\n" "${HF_HUB_OFFLINE-unset}" "$2" >>"$SEEN"\n'


def offline(target: str, folder: Path, **variables: str) -> dict[str, str]:
    """Return the lines that ``make target`` would run, each with its ``HF_HUB_OFFLINE``."""
    shell, seen = folder / "shell", folder / "seen"
    shell.write_text(SHELL)
    shell.chmod(0o755)
    # Nor does this make know of one that runs the tests.
    unset = {"HF_HUB_OFFLINE", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    subprocess.run(
        ["make", "--always-make", f"SHELL={shell}", target],
        cwd=ROOT, env={**environment, "SEEN": str(seen), **variables}, check=True, capture_output=True,
    )  # fmt: skip
    split = (line.split("\t", 1) for line in seen.read_text().splitlines() if "\t" in line)
    return {command: value for value, command in split}


def value(lines: dict[str, str], part: str) -> str:
    """Return what the one line that has ``part`` was run with."""
    (found,) = [value for command, value in lines.items() if part in command]
    return found


def test_the_models_of_make_serve_may_come_from_the_hub_unless_its_user_says_otherwise(
    tmp_path: Path,
) -> None:
    assert value(offline("serve", tmp_path), "cli.main serve") == "unset"
    (tmp_path / "seen").unlink()
    assert value(offline("serve", tmp_path, HF_HUB_OFFLINE="1"), "cli.main serve") == "1"


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("demo", "cli.main demo"), ("bench", "-m koma.bench"), ("test", "scripts/suites.py"),
        ("test-elixir", "suites.py elixir"), ("test-python", "suites.py python"),
        ("test-browser", "suites.py browser"),
        ("soak-storms", "--only soak"), ("soak-load", "tests.soak"),
    ],
)  # fmt: skip
def test_what_is_shown_tested_and_measured_asks_no_hub(target: str, part: str, tmp_path: Path) -> None:
    assert value(offline(target, tmp_path), part) == "1"
