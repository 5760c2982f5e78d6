"""One server for all official clients: the three families with the checkpoints that ship, and API keys."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import OpenAI
from tests.end_to_end.command import environment
from tests.end_to_end.server import running_server

QUEUE_LIMIT = 6
"""Jobs that may wait for one family: few, so that a test can fill its queue."""


@dataclass(frozen=True)
class Served:
    """A running server and the keys that it knows."""

    url: str
    key: str
    """Of an operator, without limits"""
    small: str
    """May have one job a day"""

    @property
    def v1(self) -> str:
        """What OpenAI's clients call the base URL."""
        return f"{self.url}/v1"


def _new_key(file: Path, *words: str) -> str:
    command = [sys.executable, "-m", "koma.cli.main", "keys", "new", *words, "--file", str(file)]
    made = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    return made.stdout.strip()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server; equal requests compute anew."""
    folder = tmp_path_factory.mktemp("clients")
    key = _new_key(folder / "keys", "tester", "roles=operator", "rate=none")
    small = _new_key(folder / "keys", "small", "jobs_per_day=1")
    settings = {
        "KOMA_KEYS_FILE": str(folder / "keys"),
        "KOMA_SHARE_RESULTS": "off",
        "KOMA_QUEUE_LIMIT": str(QUEUE_LIMIT),
        "KOMA_ABSENCE_MS": "200",
    }
    with running_server(folder / "server", settings) as server:
        yield Served(server.url, key, small)


@pytest.fixture
def openai(served: Served) -> Iterator[OpenAI]:
    """OpenAI's client for Python."""
    with OpenAI(base_url=served.v1, api_key=served.key) as client:
        yield client


@pytest.fixture
def counted(served: Served) -> Iterator[Callable[..., tuple[OpenAI, list[int]]]]:
    """Makes clients that note the status of every answer, so that a test sees what they tried again."""
    opened: list[OpenAI] = []

    def make(api_key: str = served.key, retries: int = 2) -> tuple[OpenAI, list[int]]:
        statuses: list[int] = []
        client = OpenAI(base_url=served.v1, api_key=api_key, max_retries=retries)
        client._client.event_hooks = {"response": [lambda answer: statuses.append(answer.status_code)]}
        opened.append(client)
        return client, statuses

    yield make
    for client in opened:
        client.close()
