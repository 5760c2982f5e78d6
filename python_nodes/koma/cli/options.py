"""Options that several commands share, and what they mean together."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from koma.client import DEFAULT_URL, Client

Server = Annotated[str, typer.Option("--server", envvar="KOMA_SERVER", help="Address of the server.")]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="KOMA_API_KEY", help="Key, where the server asks for one.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout, for scripts.")]
Previews = Annotated[
    Path | None, typer.Option("--previews", help="Write each preview into this folder.", file_okay=False)
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace files that are there.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Which model, where several serve the task.")]
Deadline = Annotated[
    float | None, typer.Option("--deadline", help="Seconds after which the job expires.", min=0.001)
]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed gives the same result.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Forward passes of the model.")]
Guidance = Annotated[float | None, typer.Option("--guidance", help="How closely to follow the prompt.")]
Negative = Annotated[str | None, typer.Option("--negative", help="What should not be seen.")]
Size = Annotated[str | None, typer.Option("--size", help="Width and height in pixels, e.g. 128x128.")]

SERVER = DEFAULT_URL


@dataclass(frozen=True, slots=True)
class Common:
    """How to reach the server and how to report."""

    server: str = SERVER
    api_key: str | None = None
    json: bool = False
    previews: Path | None = None
    force: bool = False

    def client(self, previews: bool = True) -> Client:
        """Return a client of the server; a bad address is a usage error."""
        try:
            return Client(self.server, api_key=self.api_key, previews="binary" if previews else "none")
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--server, --api-key") from error


def given(**params: Any) -> dict[str, Any]:
    """Return the parameters that were given; the server has the defaults and the bounds of the others."""
    return {name: value for name, value in params.items() if value is not None}


def parse_size(size: str | None) -> dict[str, int]:
    """Return width and height of ``WIDTHxHEIGHT``."""
    if size is None:
        return {}
    match = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", size.strip())
    if match is None:
        raise typer.BadParameter(f"{size!r} is not WIDTHxHEIGHT, e.g. 128x128", param_hint="--size")
    return {"width": int(match[1]), "height": int(match[2])}


def parse_settings(settings: list[str]) -> dict[str, dict[str, Any]]:
    """Return ``STAGE.NAME=VALUE`` settings as stage → name → value; values are JSON, else text."""
    params: dict[str, dict[str, Any]] = {}
    for setting in settings:
        match = re.fullmatch(r"([^.=]+)\.([^.=]+)=(.*)", setting, re.DOTALL)
        if match is None:
            raise typer.BadParameter(f"{setting!r} is not STAGE.NAME=VALUE", param_hint="--set")
        stage, name, value = match.groups()
        params.setdefault(stage, {})[name] = _value(value)
    return params


def parse_assignments(given: list[str], form: str) -> dict[str, Any]:
    """Return ``NAME=VALUE`` arguments as name → value; values are JSON, else text."""
    values: dict[str, Any] = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not (name and sign):
            raise typer.BadParameter(f"{item!r} is not {form}", param_hint=form)
        values[name] = _value(value)
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def input_file(path: Path) -> Path:
    """Return ``path`` if it is a readable file; a usage error otherwise."""
    try:
        # A pipe can be opened once only: <(cat clip.mp4).
        if path.is_fifo():
            return path
        with path.open("rb"):
            return path
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error


def free_to_write(paths: list[Path], force: bool) -> None:
    """Refuse before any work is done to replace files without ``--force``."""
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise typer.BadParameter(f"{', '.join(there)} is there already; use --force to replace it")
