"""`koma keys`: make API keys for a server."""

from __future__ import annotations

import hashlib
import re
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from koma.cli.display import emit
from koma.cli.options import Json
from koma.client.files import write_atomic

app = typer.Typer(help="API keys of a server.", no_args_is_help=True)

ID = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
# The names are those of docs/security.md; the server checks the values.
SETTINGS = (
    "roles", "weight", "rate", "burst", "jobs", "jobs_per_day", "bytes_per_day", "stored_bytes", "uploads",
    "sockets", "topics",
)  # fmt: skip
SETTING = rf"({'|'.join(SETTINGS)})=[A-Za-z0-9,]+"
SECRET_BYTES = 32

Id = Annotated[str, typer.Argument(help="Name of the key: it owns jobs and stands in logs.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(help="NAME=VALUE, e.g. roles=operator weight=3 rate=20 stored_bytes=20GiB."),
]
File = Annotated[
    Path | None, typer.Option("--file", help="Keys file to add the key to (KOMA_KEYS_FILE).", dir_okay=False)
]


@app.callback()
def keys() -> None:
    """API keys of a server."""


@app.command()
def new(id: Id, settings: Settings = None, file: File = None, json: Json = False) -> None:
    """Make a key and print it, once: the keys file holds its SHA-256 only.

    Without --file the line for the keys file is printed, too. With it the line is added to the file; a key
    that has one there gets a second secret, beside which the old one stays right until you take it out.
    """
    _check(id, settings or [])
    secret = "koma_" + secrets.token_urlsafe(SECRET_BYTES)
    line = " ".join([id, f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}", *(settings or [])])
    if file is not None:
        line = add(file, line)
    if json:
        emit({"id": id, "key": secret, "line": line})
        return
    print(secret)
    if file is None:
        print(line)
        told = "the first line is the key, shown this once; the second belongs into the server's keys file"
    else:
        told = f"this is the key, shown this once; {file} has its line"
    print(f"koma: {told}", file=sys.stderr)


def add(file: Path, line: str) -> str:
    """Add a key to a keys file, readable by its owner only, and return its line there.

    Where its id has a line already, the new secret comes before the others of that line.
    """
    text = file.read_text() if file.exists() else ""
    id, digest, *settings = line.split()
    there = re.search(rf"^[ \t]*{re.escape(id)}(?=[ \t])[^\n]*$", text, re.MULTILINE)
    if there is None:
        text = f"{text.rstrip()}\n{line}\n".lstrip()
    elif settings:
        message = f"{file} has the key {id} already; change its settings there"
        raise typer.BadParameter(message, param_hint="SETTINGS")
    else:
        line = there[0].replace(id, f"{id} {digest}", 1)
        text = text[: there.start()] + line + text[there.end() :]
    write_atomic(file, text.encode(), overwrite=True, mode=0o600)
    return line.strip()


def _check(id: str, settings: list[str]) -> None:
    if re.fullmatch(ID, id) is None:
        message = f"{id!r} must be 1 to 64 letters, digits, _ . or -, and begin with a letter or digit"
        raise typer.BadParameter(message, param_hint="ID")
    for setting in settings:
        if re.fullmatch(SETTING, setting) is None:
            message = f"{setting!r} is not NAME=VALUE with a name of {', '.join(SETTINGS)}"
            raise typer.BadParameter(message, param_hint="SETTINGS")
