"""A prompt that is not read whole is warned of once, while the job runs or with a result that was there."""

from __future__ import annotations

from koma.cli.run import warnings_of
from koma.client import Completed, Event, Progress
from koma.client.events import Queued, StageEvent, parse_job_event

NOTICE = "The prompt has 41 tokens; the model reads the first 32."
READING = {"tokens": 41, "read": 32, "unknown": 0, "limit": 32}
WARNING = {f"warning: image: {NOTICE}"}


def progress(**reading: object) -> Event:
    told = {"id": "j", "seq": 3, "at": 0, "phase": "step", "step": 0, "total": 4}
    event = parse_job_event("progress", {**told, "prompts": {"prompt": {**READING, **reading}}})
    assert isinstance(event, Progress)
    return event


def completed(meta: dict[str, object] | None) -> Event:
    output = {"name": "image", "media_type": "image/png", "bytes": 1, "artifact": "a" * 64, "meta": meta}
    event = parse_job_event("completed", {"id": "j", "seq": 1, "outputs": [output]})
    assert isinstance(event, Completed)
    return event


def test_the_event_and_the_result_give_one_and_the_same_warning() -> None:
    assert warnings_of(progress(notice=NOTICE), "image") == WARNING
    assert warnings_of(completed({"notice": NOTICE}), "image") == WARNING
    stage = StageEvent(id="p", seq=1, stage="image", job="j", event=progress(notice=NOTICE))
    assert warnings_of(stage, "story") == WARNING


def test_what_is_read_whole_gives_no_warning() -> None:
    quiet = [progress(), completed({}), completed(None), Queued(id="j", seq=1, position=1)]
    assert [warnings_of(event, "image") for event in quiet] == [set()] * 4
