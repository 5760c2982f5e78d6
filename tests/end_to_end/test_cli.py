"""The `koma` command against the three real families with their small checkpoints."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import av
import httpx
import pytest
from PIL import Image
from tests.end_to_end.command import environment, json_lines, koma, start
from tests.end_to_end.media import png, write_clip, write_long_clip
from tests.end_to_end.proxy import proxy
from tests.end_to_end.server import model_node_pids

from koma.cli.server_process import ServerProcess


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip to understand."""
    return write_clip(tmp_path / "clip.mp4")


def job_state(server: ServerProcess, id: str) -> str:
    return str(httpx.get(f"{server.url}/v1/jobs/{id}").json()["state"])


def test_a_picture_is_one_by_its_bytes_whatever_its_suffix(
    full_server: ServerProcess, tmp_path: Path
) -> None:
    photo = Path(__file__).parents[1] / "models/cases/photo.jfif"
    for path in (photo, bad_media(tmp_path)["png.mp4"]):
        done = koma(full_server, "understand", str(path), "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        [output] = json_lines(done.stdout)[-1]["outputs"]
        assert "width" in output["meta"], "a picture, not a video"


def test_a_clip_from_a_pipe_is_understood(full_server: ServerProcess, clip: Path, tmp_path: Path) -> None:
    line = f"{sys.executable} -m koma.cli.main understand <(cat {clip}) --max-new-tokens 4 --json"
    done = subprocess.run(
        ["bash", "-c", line], env=environment(KOMA_SERVER=full_server.url), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [output] = json_lines(done.stdout)[-1]["outputs"]
    assert output["meta"]["of"] > 1, "a video"


def test_the_story_becomes_three_files_with_progress_and_previews(
    full_server: ServerProcess, clip: Path, tmp_path: Path
) -> None:
    done = koma(full_server, "story", str(clip), "--out", "out", "--previews", "p", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = json_lines(done.stdout)
    steps = {line["step"] for line in lines if line["event"] == "progress" and line["stage"] == "image"}
    assert steps == set(range(13))
    assert [line for line in lines if line["event"] == "token" and line["stage"] == "caption"]
    previews = [line for line in lines if line["event"] == "preview"]
    assert {line["stage"] for line in previews} == {"image", "video"}
    for line in previews:
        Image.open(tmp_path / line["path"]).verify()
    assert lines[-1]["event"] == "result"
    assert [output["path"] for output in lines[-1]["outputs"]] == [
        "out/caption.txt", "out/image.png", "out/video.mp4"
    ]  # fmt: skip
    tokens = "".join(line["text"] for line in lines if line["event"] == "token")
    assert (tmp_path / "out/caption.txt").read_text().strip() == tokens.strip()
    Image.open(tmp_path / "out/image.png").verify()
    with av.open(str(tmp_path / "out/video.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert sum(1 for _ in container.decode(video=0)) > 1


def test_understand_prints_the_text_and_nothing_else(
    full_server: ServerProcess, clip: Path, tmp_path: Path
) -> None:
    asked = ("--prompt", "What is it?", "--max-new-tokens", "8", "--out", "text.txt")
    done = koma(full_server, "understand", str(clip), *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "text.txt").read_text().strip()
    assert "caption: done" in done.stderr


def test_an_image_can_be_understood_too(full_server: ServerProcess, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    done = koma(full_server, "understand", "a.png", "--max-new-tokens", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_two_images_are_two_files_and_the_same_seed_gives_the_same_pixels(
    full_server: ServerProcess, tmp_path: Path
) -> None:
    asked = ("image", "a cat at night", "-n", "2", "--steps", "3", "--seed", "7")
    assert koma(full_server, *asked, "-o", "a.png", cwd=tmp_path).stdout.split() == ["a.png", "a_2.png"]
    assert koma(full_server, *asked, "-o", "b.png", cwd=tmp_path).returncode == 0
    first, second, again = (Image.open(tmp_path / name) for name in ("a.png", "a_2.png", "b.png"))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != second.tobytes()


def test_a_video_starts_from_a_given_image(full_server: ServerProcess, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    done = koma(full_server, "video", "a cat", "--image", "a.png", "--steps", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "video.mp4\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_job_on_the_server(
    full_server: ServerProcess, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start(full_server, "video", "a cat", "--steps", "100", "--json", cwd=tmp_path)
    assert process.stdout is not None
    id = ""
    for text in process.stdout:
        line = json.loads(text)
        if line["event"] == "progress" and line["step"] >= 1:
            id = line["id"]
            break
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert job_state(full_server, id) == "cancelled"
    last = json_lines(rest)[-1]
    assert (last["event"], last["code"], last["exit"]) == ("error", "cancelled", code)
    assert not (tmp_path / "video.mp4").exists()


def test_a_signal_cancels_a_pipeline_with_its_running_stage(
    full_server: ServerProcess, clip: Path, tmp_path: Path
) -> None:
    process = start(full_server, "story", str(clip), "--set", "image.steps=64", "--json", cwd=tmp_path)
    assert process.stdout is not None
    lines = (json.loads(text) for text in process.stdout)
    id = next(line["id"] for line in lines if line["event"] == "progress" and line["stage"] == "image")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert job_state(full_server, id) == "cancelled"
    assert not (tmp_path / "out").exists()


async def line_with(words: bytes, output: asyncio.StreamReader) -> None:
    """Read until a line has these words."""
    seen = b""
    async with asyncio.timeout(30):
        while words not in seen:
            line = await output.readline()
            assert line, f"the output ended: {seen!r}"
            seen += line


async def test_a_second_signal_leaves_at_once_when_the_server_is_silent(
    full_server: ServerProcess, tmp_path: Path
) -> None:
    async with proxy(full_server.url) as between:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "koma.cli.main", "video", "a cat", "--steps", "100",
            cwd=tmp_path, env=environment(KOMA_SERVER=f"http://127.0.0.1:{between.port}"),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        await line_with(b"video: started", process.stderr)
        between.swallow()
        process.send_signal(signal.SIGINT)
        await line_with(b"once more", process.stderr)
        async with asyncio.timeout(2):
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
        between.flow()


def test_a_job_that_somebody_else_cancels_ends_with_130(full_server: ServerProcess, tmp_path: Path) -> None:
    process = start(full_server, "video", "a cat", "--steps", "100", "--json", cwd=tmp_path)
    assert process.stdout is not None
    id = next(line["id"] for text in process.stdout if (line := json.loads(text))["event"] == "started")
    assert koma(full_server, "jobs", "cancel", id, cwd=tmp_path).returncode == 0
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_jobs_are_listed_shown_and_watched(full_server: ServerProcess, tmp_path: Path) -> None:
    done = koma(full_server, "image", "a cat", "--steps", "2", "--json", cwd=tmp_path)
    id = json_lines(done.stdout)[-1]["id"]
    listed = koma(full_server, "jobs", cwd=tmp_path)
    assert id in listed.stdout
    assert id in {job["id"] for job in json_lines(koma(full_server, "jobs", "--json", cwd=tmp_path).stdout)}
    (record,) = json_lines(koma(full_server, "jobs", "show", id, "--json", cwd=tmp_path).stdout)
    assert record["state"] == "completed"
    watched = json_lines(koma(full_server, "jobs", "watch", id, "--json", cwd=tmp_path).stdout)
    assert [line["seq"] for line in watched if "seq" in line] == list(range(1, record["seq"] + 1))
    absent = koma(full_server, "jobs", "show", "nothing", cwd=tmp_path)
    assert absent.returncode == 2
    assert "not_found" in absent.stderr


def refusal(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    line = json_lines(done.stdout)[-1]
    assert line["event"] == "error"
    return line


@pytest.mark.parametrize(
    ("arguments", "field", "code"),
    [
        (("image", "a cat", "--steps", "0"), "steps", "out_of_bounds"),
        (("image", "a cat", "--steps", "65"), "steps", "out_of_bounds"),
        (("image", ""), "prompt", "out_of_bounds"),
        (("image", "a cat", "--size", "7x7"), "width height", None),
        (("video", "a cat", "--frames", "1000000"), "frames", None),
        (("video", "a cat", "--guidance", "-1"), "guidance_scale", "out_of_bounds"),
        (("image", "a cat", "--model", "gpt"), "model", "unknown_model"),
    ],
)
def test_a_value_out_of_bounds_ends_with_2_and_names_field_value_and_bound(
    full_server: ServerProcess, tmp_path: Path, arguments: tuple[str, ...], field: str, code: str | None
) -> None:
    done = koma(full_server, *arguments, "--json", cwd=tmp_path)
    assert done.returncode == 2
    error = refusal(done)
    assert error["field"] in field.split()
    assert error["exit"] == 2
    assert code is None or error["code"] == code


def bad_media(folder: Path) -> dict[str, Path]:
    """Write the files that no model can take."""
    clip = write_clip(folder / "whole.mp4").read_bytes()
    files = {
        "empty.mp4": b"",
        "truncated.mp4": clip[: len(clip) // 2],
        "png.mp4": png(64, 64),
        "garbage.mp4": bytes(range(256)) * 40,
        "huge.png": png(10_000, 10_000),
        "cut.png": png(640, 640)[:60],
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    write_long_clip(folder / "long.mp4", seconds=7200)
    return {name: folder / name for name in (*files, "long.mp4")}


@pytest.mark.parametrize(
    ("name", "codes", "exits"),
    [
        ("empty.mp4", {"invalid_media"}, {2}),
        ("truncated.mp4", {"invalid_media"}, {1, 2}),
        ("garbage.mp4", {"unsupported_media", "invalid_media"}, {1, 2}),
        ("huge.png", {"too_large"}, {1, 2}),
        ("cut.png", {"invalid_media"}, {1, 2}),
        ("long.mp4", {"too_large"}, {1, 2}),
    ],
)
def test_a_medium_that_no_model_can_take_is_told_with_a_code_and_nothing_restarts(
    full_server: ServerProcess, tmp_path: Path, name: str, codes: set[str], exits: set[int]
) -> None:
    before = model_node_pids(full_server)
    done = koma(full_server, "understand", str(bad_media(tmp_path)[name]), "--json", cwd=tmp_path)
    error = refusal(done)
    assert error["code"] in codes
    assert error["message"]
    assert "/artifacts" not in str(error), "a path of the server is told"
    assert done.returncode in exits
    assert model_node_pids(full_server) == before


def test_a_prompt_of_a_megabyte_is_refused_by_its_length(full_server: ServerProcess) -> None:
    request = {"task": "image.generate", "params": {"prompt": "x" * 1_000_000}}
    answer = httpx.post(f"{full_server.url}/v1/jobs", json=request)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (400, "out_of_bounds", "prompt")
    assert error["bound"]
    assert len(answer.content) < 10_000, "the value is told shortened"


def test_a_result_that_cannot_be_written_ends_with_5(full_server: ServerProcess, tmp_path: Path) -> None:
    done = koma(full_server, "image", "a cat", "--steps", "1", "--out", "/proc/image.png", cwd=tmp_path)
    assert done.returncode == 5
    assert "/proc" in done.stderr


def test_operators_drain_load_and_pause_from_the_command_line(server: ServerProcess, tmp_path: Path) -> None:
    def ask(*arguments: str) -> list[dict[str, object]]:
        done = koma(server, arguments[0], "--json", *arguments[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return json_lines(done.stdout)

    names = [node["node"] for node in ask("nodes")]
    assert names == ["toy-1", "toy-2"]
    assert ask("nodes", "drain", "toy-2")[0]["state"] in ("draining", "drained")
    assert ask("nodes", "resume", "toy-2")[0]["state"] == "ready"
    [queue] = ask("queue", "pause", "toy")
    assert queue["paused"] is True
    [queue] = ask("queue", "resume", "toy")
    assert queue["paused"] is False
    refused = koma(server, "nodes", "--json", "drain", "toy-9", cwd=tmp_path)
    assert refused.returncode == 2
    assert json_lines(refused.stdout)[-1]["code"] == "not_found"
