"""What the README says is so: its commands run, its links and folders are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from koma.cli.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:4000"
# Commands that set up or start what these tests run against; their targets are looked at instead.
MAKE = re.compile(r"^make (\S+)", re.MULTILINE)


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [block for named, block in fenced if named == language]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder from which the README's relative paths lead into the project."""
    for name in ("priv", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(command: list[str], folder: Path, server: ServerProcess) -> str:
    """Run a command against ``server``; fail with its output."""
    environment = {**os.environ, "KOMA_SERVER": server.url, "PYTHONPATH": str(ROOT / "python_nodes")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("block", [block for block in blocks("sh") if not MAKE.search(block)])
def test_the_shell_commands_of_the_readme_work(
    block: str, shell: str, workplace: Path, full_server: ServerProcess
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed; which words it would read differently is looked at below")
    script = block.replace(ADDRESS, full_server.url)
    output = run([shell, "-euo", "pipefail", "-c", script], workplace, full_server)
    assert '"error"' not in output


def commands(page: Path) -> list[str]:
    """Return the shell commands of a page: those of its fenced shell blocks, and indented ones."""
    fenced = re.findall(r"^```(?:sh|bash|zsh|shell|console)\n(.*?)^```$", page.read_text(), re.M | re.S)
    # Two spaces part a command of an overview from what is said of it.
    indented = re.findall(r"^    ((?:curl|koma|make|source)\b(?:(?!  |\|).)*)$", page.read_text(), re.M)
    return [*(line for block in fenced for line in block.splitlines()), *indented]


def bare(command: str) -> str:
    """Return what a shell looks at of a command: all but its quoted parts."""
    return re.sub(r"""'[^']*'|"[^"]*"|\\.""", "", command)


def test_no_command_of_any_page_has_what_zsh_takes_for_a_pattern_or_no_comment() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [(page.name, line) for page in pages for line in commands(page)]
    assert len(found) >= 10
    # Typed into zsh, a word with ? * or [ that fits no file stops the command, and # begins no comment.
    assert [told for told in found if re.search(r"[?*\[#]", bare(told[1]))] == []


@pytest.mark.parametrize(("word", "expected"), [("koma.client", "/v1/artifacts/"), ("openai", "coffee")])
def test_the_python_of_the_readme_works(
    word: str, expected: str, workplace: Path, full_server: ServerProcess
) -> None:
    (block,) = [block for block in blocks("python") if block.startswith(f"from {word} import")]
    output = run([sys.executable, "-c", block.replace(ADDRESS, full_server.url)], workplace, full_server)
    assert expected in output


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = [target for block in blocks("sh") for target in MAKE.findall(block)]
    assert {"demo", "test"} <= set(named)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_the_links_of_every_page_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_table_of_folders_is_that_of_the_sources() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"^\| `((?:lib|python_nodes|priv)/[^`]+)` \|", page, re.MULTILINE)
    assert all((ROOT / name).exists() for name in named)
    for side in ("lib/koma", "python_nodes/koma"):
        folders = {f"{side}/{path.name}" for path in (ROOT / side).iterdir() if path.is_dir()}
        assert folders - {f"{side}/__pycache__"} <= set(named), side
