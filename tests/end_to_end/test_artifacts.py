"""Files in and out through the public interface."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from koma.client import Client, RefusedError

TASK = "toy.run"


async def test_a_file_comes_back_as_it_was_with_progress_both_ways(client: Client, tmp_path: Path) -> None:
    source, copy = tmp_path / "source.bin", tmp_path / "copy.bin"
    content = os.urandom(3_000_000)
    source.write_bytes(content)
    sent: list[tuple[int, int | None]] = []
    got: list[tuple[int, int | None]] = []
    artifact = await client.upload(source, progress=lambda done, total: sent.append((done, total)))
    await client.download(artifact.id, copy, progress=lambda done, total: got.append((done, total)))
    assert copy.read_bytes() == content
    assert artifact.id == hashlib.sha256(content).hexdigest()
    assert sent == sorted(sent)
    assert sent[-1] == got[-1] == (3_000_000, 3_000_000)


async def test_the_same_file_twice_is_one_artifact(client: Client, data: Path) -> None:
    assert await client.upload(data) == await client.upload(data)


async def test_an_input_reaches_the_model_and_a_large_result_comes_back_as_a_file(
    client: Client, data: Path, tmp_path: Path
) -> None:
    artifact = await client.upload(data)
    params = {"steps": 1, "output_bytes": 200_000, "seed": 1}
    result = await (await client.submit(TASK, params, {"file": artifact.id})).result()
    output = result.outputs[0]
    assert output.artifact is not None
    assert output.size is not None
    assert output.size >= 200_000
    await client.download(output.artifact, tmp_path / "result")
    content = (tmp_path / "result").read_bytes()
    assert len(content) == output.size
    assert artifact.id.encode() in content


async def test_an_empty_file_is_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(RefusedError) as refusal:
        await client.upload(tmp_path / "empty.mp4")
    assert refusal.value.code == "invalid_media"


async def test_a_file_that_is_not_stored_is_told_and_leaves_nothing_behind(
    client: Client, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError) as refusal:
        await client.download("0" * 64, tmp_path / "nothing")
    assert refusal.value.code in ("not_found", "artifact_not_found")
    assert os.listdir(tmp_path) == []


async def test_a_file_that_is_there_is_not_replaced(client: Client, data: Path, tmp_path: Path) -> None:
    artifact = await client.upload(data)
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        await client.download(artifact.id, target)
    assert target.read_bytes() == b"old"
    await client.download(artifact.id, target, overwrite=True)
    assert target.read_bytes() == b"Koma" * 1000


def content(path: Path) -> bytes:
    return path.read_bytes()


def filled(pipe: Path, data: Path) -> subprocess.Popen[bytes]:
    """A process that writes ``data`` into a pipe."""
    os.mkfifo(pipe)
    return subprocess.Popen(["sh", "-c", f"cat {data} > {pipe}"])


async def test_a_path_as_text_bytes_an_open_file_and_a_pipe_are_uploaded_alike(
    client: Client, data: Path, tmp_path: Path
) -> None:
    artifact = await client.upload(data)
    pipe = tmp_path / "pipe"
    with filled(pipe, data), data.open("rb") as file:
        for source in (str(data), content(data), file, pipe):
            assert (await client.upload(source, "text/plain")).id == artifact.id
        assert not file.closed
    await client.download(artifact.id, str(tmp_path / "copy.txt"))
    assert content(tmp_path / "copy.txt") == content(data)


async def test_a_file_above_the_limit_of_the_server_is_refused_with_it_before_it_is_sent(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(512 * 1024 * 1024 + 1)
    sent: list[int] = []
    with pytest.raises(RefusedError) as refused:
        await client.upload(path, progress=lambda done, _total: sent.append(done))
    assert (refused.value.code, refused.value.bound) == ("too_large", 512 * 1024 * 1024)
    assert sent == []
