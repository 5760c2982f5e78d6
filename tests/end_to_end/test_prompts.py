"""What the models read of a prompt is told at every door; numbers at the ends of a double harm nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.end_to_end.command import json_lines, koma
from tests.end_to_end.media import write_clip
from tests.end_to_end.server import model_node_pids

from koma.cli.server_process import ServerProcess
from koma.client import Client, Completed, Progress

IMAGE, VIDEO, UNDERSTAND = "image.generate", "video.generate", "video.understand"
LONG = "a red sailboat moves right on the sea " * 8
QUICK: dict[str, dict[str, Any]] = {
    IMAGE: {"prompt": "a cup", "steps": 1, "seed": 1},
    VIDEO: {"prompt": "a cup", "steps": 1, "frames": 9, "width": 32, "height": 32, "seed": 1},
    UNDERSTAND: {"max_new_tokens": 1, "seed": 1},
}
EXTREMES = [5e-324, -5e-324, 1e-300, 1e-38, -0.0, 1e38, 1e300, 1e308, -1e308, 2**63, 2**64, 10**300]


def count(server: ServerProcess, task: str, **params: str) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/v1/count", json={"task": task, "params": params})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("task", [IMAGE, VIDEO])
async def test_a_prompt_that_is_cut_is_told_by_the_count_the_events_and_the_output(
    full_server: ServerProcess, task: str
) -> None:
    counted = count(full_server, task, prompt=LONG)["prompt"]
    assert counted["tokens"] > counted["read"] == counted["limit"] == 32
    async with Client(full_server.url) as client:
        job = await client.submit(task, {**QUICK[task], "prompt": LONG})
        events = [event async for event in job.events()]
    told = [event.prompts for event in events if isinstance(event, Progress) and event.prompts]
    assert told[0]["prompt"] == counted
    assert len(told) == 1
    assert isinstance(events[-1], Completed)
    meta = events[-1].outputs[0].meta or {}
    assert (meta["prompt_tokens"], meta["read_tokens"], meta["unknown_tokens"]) == (counted["tokens"], 32, 0)
    assert meta["notice"] == counted["notice"]


def test_a_prompt_in_words_that_the_model_does_not_know_runs_and_warns_on_stderr(
    full_server: ServerProcess, tmp_path: Path
) -> None:
    size = ("--steps", "1", "--frames", "9", "--size", "32x32")
    done = koma(full_server, "video", "日本 🚀", *size, "-o", "a.mp4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a.mp4\n"
    warning = "warning: video: The model cannot read the prompt: all of it is unknown to it."
    assert done.stderr.count(warning) == 1
    known = koma(full_server, "video", "a cup", *size, "-o", "b.mp4", "--json", cwd=tmp_path)
    assert "warning" not in known.stdout + known.stderr
    meta = json_lines(known.stdout)[-1]["outputs"][0]["meta"]
    assert meta["prompt_tokens"] == meta["read_tokens"] > meta["unknown_tokens"] == 0


def test_a_question_is_read_whole_and_its_tokens_are_told(full_server: ServerProcess, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    done = koma(full_server, "understand", str(clip), "--max-new-tokens", "2", "--json", cwd=tmp_path)
    meta = json_lines(done.stdout)[-1]["outputs"][0]["meta"]
    assert meta["prompt_tokens"] == meta["read_tokens"] > 0
    assert meta["unknown_tokens"] == 0
    assert count(full_server, UNDERSTAND, prompt="What is it?")["prompt"]["tokens"] > 2


def test_a_negative_prompt_is_counted_where_there_is_one(full_server: ServerProcess) -> None:
    both = count(full_server, VIDEO, prompt="a cup", negative_prompt="杯")
    assert both["negative_prompt"]["notice"].startswith("The model cannot read the negative prompt")
    assert list(count(full_server, VIDEO, prompt="a cup", negative_prompt="")) == ["prompt"]


@pytest.mark.parametrize("task", [IMAGE, VIDEO, UNDERSTAND])
def test_no_number_however_small_or_great_makes_a_model_fail(
    full_server: ServerProcess, tmp_path: Path, task: str
) -> None:
    before = model_node_pids(full_server)
    clip = write_clip(tmp_path / "clip.mp4").read_bytes()
    with httpx.Client(base_url=full_server.url, timeout=120) as http:
        stored = http.post("/v1/artifacts", content=clip, headers={"content-type": "video/mp4"}).json()["id"]
        inputs = {"video": stored} if task == UNDERSTAND else {}
        [family] = [family for family in http.get("/v1/models").json()["data"] if task in family["tasks"]]
        fields = family["tasks"][task]["params"]["properties"]
        for name in [name for name, field in fields.items() if '"number"' in json.dumps(field)]:
            for value in EXTREMES:
                request = {"task": task, "params": {**QUICK[task], name: value}, "inputs": inputs}
                answer = http.post("/v1/jobs?wait=true", json=request)
                told = answer.json()
                if answer.status_code == 200:
                    assert told["state"] == "completed", (name, value, told["error"])
                else:
                    assert (told["error"]["code"], told["error"]["field"]) == ("out_of_bounds", name)
                    assert told["error"]["bound"] is not None
                    assert len(answer.content) < 600
    assert model_node_pids(full_server) == before
