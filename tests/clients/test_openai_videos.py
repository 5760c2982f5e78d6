"""Videos through OpenAI's client for Python: made, asked after, listed, fetched and deleted."""

from __future__ import annotations

import io
from typing import Any

import av
import httpx
import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI
from PIL import Image
from tests.clients.conftest import Served

BOAT: dict[str, Any] = {"model": "ltx_video", "prompt": "a sailboat moving right on the sea"}
QUICK: dict[str, Any] = {"num_inference_steps": 2, "num_frames": 9, "seed": 7}


def picture(side: int = 64) -> tuple[str, bytes, str]:
    """Return a PNG as a file of a form."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "navy").save(buffer, format="PNG")
    return ("first.png", buffer.getvalue(), "image/png")


def test_a_video_is_made_asked_after_and_fetched_with_its_thumbnail(openai: OpenAI) -> None:
    video = openai.videos.create_and_poll(**BOAT, extra_body=QUICK)
    assert video.status == "completed"
    assert video.progress == 100
    content = openai.videos.download_content(video.id).content
    with av.open(io.BytesIO(content)) as container:
        frames = sum(1 for _ in container.decode(video=0))
        stream = container.streams.video[0]
        assert frames == 9
        assert video.size == f"{stream.width}x{stream.height}"
    thumbnail = Image.open(io.BytesIO(openai.videos.download_content(video.id, variant="thumbnail").content))
    assert thumbnail.format == "JPEG"
    assert f"{thumbnail.width}x{thumbnail.height}" == video.size


def test_a_picture_is_the_first_frame_also_as_json_and_by_the_names_of_openai(
    openai: OpenAI, served: Served
) -> None:
    theirs: dict[str, Any] = {"input_reference": picture(), "size": "64x64", "seconds": "1"}
    video: Any = openai.videos.create_and_poll(**BOAT, **theirs, extra_body={"steps": 2})
    assert video.status == "completed"
    assert video.size == "64x64"
    assert 0.5 < float(video.seconds) < 1.5
    job = httpx.get(f"{served.v1}/jobs/{video.id}", headers={"authorization": f"Bearer {served.key}"}).json()
    body = {**BOAT, **QUICK, "input_reference": {"file_id": job["inputs"]["image"]}}
    answer = httpx.post(f"{served.v1}/videos", json=body, headers={"authorization": f"Bearer {served.key}"})
    assert answer.json()["num_frames"] == QUICK["num_frames"]
    assert int(answer.headers["openai-poll-after-ms"]) > 0
    assert openai.videos.poll(answer.json()["id"]).status == "completed"


def test_a_list_goes_over_its_pages_in_both_orders_and_what_is_deleted_is_gone(openai: OpenAI) -> None:
    made = [openai.videos.create_and_poll(**BOAT, extra_body=QUICK).id for _ in range(3)]
    newest = [video.id for video, _ in zip(openai.videos.list(limit=1), range(3), strict=False)]
    assert newest == made[::-1]
    everything = [video.id for video in openai.videos.list(limit=2)]
    assert [video.id for video in openai.videos.list(limit=2, order="asc")] == everything[::-1]
    gone = openai.videos.delete(made[1])
    assert gone.deleted
    assert [video.id for video in openai.videos.list(limit=2)] == [id for id in everything if id != made[1]]
    with pytest.raises(NotFoundError):
        openai.videos.retrieve(made[1])


def test_a_video_that_runs_tells_how_far_it_is_has_no_content_and_may_be_deleted(openai: OpenAI) -> None:
    slow = QUICK | {"num_inference_steps": 100, "num_frames": 25}
    video: Any = openai.videos.create(**BOAT, extra_body=slow)
    assert video.status in ("queued", "in_progress")
    while video.progress == 0 and video.status != "completed":
        video = openai.videos.retrieve(video.id)
    assert video.status == "in_progress"
    assert 0 < video.progress < 100
    with pytest.raises(NotFoundError, match="not there yet"):
        openai.videos.download_content(video.id)
    assert openai.videos.delete(video.id).deleted
    with pytest.raises(NotFoundError):
        openai.videos.retrieve(video.id)


@pytest.mark.parametrize(
    ("asked", "kind", "code", "param"),
    [
        ({"model": "sora-2"}, NotFoundError, "model_not_found", "model"),
        ({"size": "large"}, BadRequestError, "invalid_value", "size"),
        ({"seconds": "never"}, BadRequestError, "invalid_value", "seconds"),
        ({"seconds": "9999"}, BadRequestError, "invalid_value", "seconds"),
        ({"extra_body": {"num_frames": "many"}}, BadRequestError, "wrong_type", "num_frames"),
        ({"extra_body": {"guidance_scale": "99"}}, BadRequestError, "out_of_bounds", "guidance_scale"),
        ({"input_reference": ("a.pdf", b"%PDF-1.7", "application/pdf")}, APIStatusError,
         "unsupported_media", "input_reference"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_code_and_parameter(
    openai: OpenAI, asked: dict[str, Any], kind: type[APIStatusError], code: str, param: str
) -> None:
    with pytest.raises(kind) as refused:
        openai.videos.create(**(BOAT | asked))
    assert (refused.value.code, refused.value.param) == (code, param)


def test_an_unknown_page_or_variant_is_refused(openai: OpenAI) -> None:
    with pytest.raises(NotFoundError):
        openai.videos.list(after="job_nothing").data  # noqa: B018
    video = openai.videos.create_and_poll(**BOAT, extra_body=QUICK)
    with pytest.raises(BadRequestError, match="video, thumbnail"):
        openai.videos.download_content(video.id, variant="spritesheet")
