"""Servers for end-to-end tests, each started once in a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.end_to_end.server import TOY, running_server

from koma.cli.server_process import ServerProcess
from koma.client import Client


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with two toy model nodes."""
    with running_server(tmp_path_factory.mktemp("toy-server"), TOY) as running:
        yield running


@pytest.fixture(scope="session")
def full_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the three real families and their small checkpoints; equal requests compute anew."""
    environment = {"KOMA_SHARE_RESULTS": "off"}
    with running_server(tmp_path_factory.mktemp("full-server"), environment) as running:
        yield running


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    """A client of the toy server."""
    async with Client(server.url) as opened:
        yield opened


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small file to upload."""
    path = tmp_path / "data.txt"
    path.write_bytes(b"Koma" * 1000)
    return path
