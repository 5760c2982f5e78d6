"""`koma keys new`: the key is told once, and the keys file holds its digest only."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from koma.cli import keys

DIGEST = "sha256:" + "0a" * 32
OTHER = "sha256:" + "0b" * 32


def new(*arguments: str) -> list[str]:
    result = CliRunner().invoke(keys.app, ["new", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_a_key_is_printed_with_the_line_that_holds_its_digest() -> None:
    secret, line = new("studio", "roles=operator", "rate=5")[:2]
    assert re.fullmatch(r"koma_[A-Za-z0-9_-]{43}", secret)
    assert line == f"studio sha256:{hashlib.sha256(secret.encode()).hexdigest()} roles=operator rate=5"
    assert new("studio")[0] != secret


def test_a_file_gets_the_line_and_never_the_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    secret = new("studio", "weight=3", "--file", str(file))[0]
    text = file.read_text()
    assert text == f"studio sha256:{hashlib.sha256(secret.encode()).hexdigest()} weight=3\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    new("render", "--file", str(file))
    assert file.read_text().startswith(text)
    assert len(file.read_text().splitlines()) == 2


def test_a_key_that_has_a_line_gets_a_second_secret_there(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    before = f"# the studio\nstudio2 {OTHER}\n  studio {OTHER} weight=3 # May\nlast {OTHER}"
    file.write_text(before)
    assert keys.add(file, f"studio {DIGEST}") == f"studio {DIGEST} {OTHER} weight=3 # May"
    assert file.read_text() == before.replace("  studio ", f"  studio {DIGEST} ")


def test_the_settings_of_a_key_that_has_a_line_are_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"studio {OTHER} weight=3\n")
    with pytest.raises(typer.BadParameter, match="has the key studio already"):
        keys.add(file, f"studio {DIGEST} weight=4")
    assert file.read_text() == f"studio {OTHER} weight=3\n"


def test_json_is_one_line() -> None:
    (line,) = new("studio", "--json")
    assert '"key": "koma_' in line
    assert '"line": "studio sha256:' in line
