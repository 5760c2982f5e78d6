"""API keys from end to end: made by `koma keys new`, read by a real server, shown by real clients."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from phoenix_channels_python_client import PHXChannelsClient  # type: ignore[import-untyped]
from phoenix_channels_python_client.exceptions import PHXConnectionError  # type: ignore[import-untyped]
from tests.end_to_end.command import environment, json_lines
from tests.end_to_end.server import TOY, running_server

from koma.cli.keys import SETTINGS
from koma.cli.server_process import ServerError, ServerProcess
from koma.client import Client, Completed, RefusedError, SyncClient

PATIENCE = 60.0  # seconds


def koma(
    *arguments: str, cwd: Path, server: ServerProcess | None = None, key: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `koma ARGUMENTS`, the key in the environment."""
    variables = {"KOMA_SERVER": server.url if server else "http://127.0.0.1:9", "KOMA_API_KEY": key}
    return subprocess.run(
        [sys.executable, "-m", "koma.cli.main", *arguments], cwd=cwd, env=environment(**variables),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def new_key(file: Path, *arguments: str) -> str:
    """Return a key that `koma keys new` made."""
    done = koma("keys", "new", *arguments, "--file", str(file), cwd=file.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Keys by id, and under "file" the path of their file."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    made = {
        "a": new_key(file, "a"),
        "b": new_key(file, "b"),
        "slow": new_key(file, "slow", "rate=1", "burst=4"),
    }
    made["boss"] = new_key(file, "boss", "roles=operator,metrics")
    return made | {"file": str(file)}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[ServerProcess]:
    """A server that asks for these keys."""
    folder = tmp_path_factory.mktemp("locked")
    with running_server(folder, TOY | {"KOMA_KEYS_FILE": keys["file"]}) as running:
        yield running


def test_the_command_shows_its_key_and_sees_the_jobs_of_that_key_only(
    locked: ServerProcess, keys: dict[str, str], tmp_path: Path
) -> None:
    with SyncClient(locked.url, api_key=keys["a"]) as client:
        job = client.submit("toy.run", {"steps": 1})
        job.result()
    listed = koma("jobs", "--json", cwd=tmp_path, server=locked, key=keys["a"])
    assert [line["id"] for line in json_lines(listed.stdout)] == [job.id]
    assert koma("jobs", "--json", cwd=tmp_path, server=locked, key=keys["b"]).stdout == ""
    option = koma("jobs", "--api-key", keys["a"], "--json", cwd=tmp_path, server=locked)
    assert option.stdout == listed.stdout
    foreign = koma("jobs", "show", job.id, cwd=tmp_path, server=locked, key=keys["b"])
    assert foreign.returncode == 2
    assert "not_found" in foreign.stderr


@pytest.mark.parametrize("key", ["", "koma_wrong"])
@pytest.mark.parametrize("arguments", [("jobs",), ("jobs", "watch", "job_x"), ("jobs", "cancel", "job_x")])
def test_a_missing_or_wrong_key_is_told_with_what_to_do(
    locked: ServerProcess, tmp_path: Path, key: str, arguments: tuple[str, ...]
) -> None:
    done = koma(*arguments, cwd=tmp_path, server=locked, key=key)
    assert done.returncode == 6
    assert done.stderr.startswith("koma: unauthorized: ")
    assert "KOMA_API_KEY" in done.stderr
    assert "koma_wrong" not in done.stderr


def test_an_artifact_is_there_for_the_key_that_uploaded_it(
    locked: ServerProcess, keys: dict[str, str], data: Path
) -> None:
    with SyncClient(locked.url, api_key=keys["a"]) as a, SyncClient(locked.url, api_key=keys["b"]) as b:
        file = a.upload(data)
        assert a.read(file.id) == data.read_bytes()
        with pytest.raises(RefusedError, match="artifact_not_found"):
            b.read(file.id)
        with pytest.raises(RefusedError, match="artifact_not_found"):
            b.submit("toy.run", {"steps": 1}, {"file": file.id})
        b.upload(data)
        assert b.read(file.id) == data.read_bytes()


async def test_a_client_that_is_slowed_down_gets_its_job_to_the_end(
    locked: ServerProcess, keys: dict[str, str]
) -> None:
    refused = 0
    async with Client(locked.url, api_key=keys["slow"]) as client:
        for _ in range(6):
            job = None
            while job is None:
                try:
                    job = await client.submit("toy.run", {"steps": 1})
                except RefusedError as error:
                    refused += error.code == "rate_limited"
                    await asyncio.sleep((error.retry_after_ms or 0) / 1000)
            # Its join may be refused, too: that the client does again by itself.
            assert (await job.result()).outputs
    assert refused


@pytest.mark.parametrize("headers", [None, "x-api-key", "x-auth-token"])
async def test_the_official_python_client_shows_its_key_in_the_query_or_a_header(
    locked: ServerProcess, keys: dict[str, str], headers: str | None
) -> None:
    url = locked.url.replace("http://", "ws://", 1) + "/socket/websocket"
    for key, right in ((keys["a"], True), ("koma_wrong", False)):
        client = PHXChannelsClient(url, key, additional_headers={headers: key} if headers else None)
        with nullcontext() if right else pytest.raises(PHXConnectionError, match="403"):
            async with client:
                await client.subscribe_to_topic("jobs", ignore)


async def ignore(_message: object) -> None:
    """Take a message of a topic."""


def test_the_official_javascript_client_shows_its_key_as_auth_token_or_parameter(
    locked: ServerProcess, keys: dict[str, str]
) -> None:
    cases = Path(__file__).parent / "clients" / "access.test.mjs"
    result = subprocess.run(
        ["node", "--test", str(cases)], env={**os.environ, "KOMA_URL": locked.url, "KOMA_API_KEY": keys["a"]},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_neither_log_nor_metrics_nor_data_hold_a_key(locked: ServerProcess, keys: dict[str, str]) -> None:
    for query in ("", f"&api_key={keys['a']}"):
        httpx.get(f"{locked.url}/v1/jobs?limit=x{query}", headers={"authorization": f"Bearer {keys['a']}"})
    metrics = httpx.get(f"{locked.url}/metrics", headers={"authorization": f"Bearer {keys['boss']}"})
    assert metrics.status_code == 200
    assert "koma_access_refused_total" in metrics.text
    secrets = [key.encode() for name, key in keys.items() if name != "file"]
    places = [metrics.content, Path(keys["file"]).read_bytes()]
    places += [path.read_bytes() for path in locked.log.parent.rglob("*") if path.is_file()]
    assert any(b"API keys are asked for: 4 keys" in place for place in places)
    for place in places:
        assert not any(secret in place for secret in secrets)


def test_a_key_that_is_replaced_or_taken_away_counts_without_a_restart(
    locked: ServerProcess, keys: dict[str, str], tmp_path: Path
) -> None:
    file = Path(keys["file"])
    text = file.read_text()
    with SyncClient(locked.url, api_key=keys["b"]) as client:
        job = client.submit("toy.run", {"steps": 10_000, "step_ms": 5})
        second = new_key(file, "b")
        wait_for(locked, second, 200)
        assert status(locked, keys["b"]) == 200
        file.write_text(re.sub(r"^b .*\n", "", text, flags=re.MULTILINE))
        wait_for(locked, second, 401)
        assert status(locked, keys["b"]) == 401
        with pytest.raises(RefusedError, match="unauthorized"):
            job.result()
    file.write_text(text)
    wait_for(locked, keys["b"], 200)


def status(server: ServerProcess, key: str) -> int:
    """Return the status of a request with this key."""
    return httpx.get(f"{server.url}/v1/jobs", headers={"x-api-key": key}).status_code


def wait_for(server: ServerProcess, key: str, wanted: int) -> None:
    """Wait until the server has read its keys again."""
    for _ in range(200):
        if status(server, key) == wanted:
            return
        asyncio.run(asyncio.sleep(0.1))
    raise AssertionError(f"the server went on answering otherwise than with {wanted}")


def test_the_server_knows_every_setting_of_the_command(tmp_path: Path) -> None:
    values = {"roles": "operator"}
    file = tmp_path / "keys"
    key = new_key(file, "all", *[f"{name}={values.get(name, '9')}" for name in SETTINGS])
    with running_server(tmp_path, TOY | {"KOMA_KEYS": file.read_text().replace("\n", ";")}) as server:
        assert status(server, key) == 200


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"KOMA_BIND": "0.0.0.0"}, "without API keys the server listens on loopback only"),
        ({"KOMA_KEYS_FILE": "/absent/keys"}, "no such file"),
        ({"KOMA_KEYS": ""}, "no API key is in"),
        ({"KOMA_KEYS": "a sha256:12"}, "KOMA_KEYS: line 1"),
    ],
)
def test_a_server_that_would_let_anybody_in_does_not_start_and_says_why(
    tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    with pytest.raises(ServerError) as error, ServerProcess(tmp_path, TOY | variables, tmp_path / "log"):
        pass
    assert words in str(error.value)


def test_it_says_at_start_that_nobody_is_asked_for_a_key(tmp_path: Path) -> None:
    with running_server(tmp_path, TOY) as server:
        assert "No API keys: whoever reaches 127.0.0.1 on this machine is operator" in server.log.read_text()
        assert status(server, "whatever") == 200


async def test_completed_events_reach_a_client_with_a_key(
    locked: ServerProcess, keys: dict[str, str]
) -> None:
    async with Client(locked.url, api_key=keys["a"]) as client:
        job = await client.submit("toy.run", {"steps": 2})
        events = [event async for event in job.events()]
    assert isinstance(events[-1], Completed)
