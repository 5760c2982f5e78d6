"""Models and pictures through OpenAI's client for Python."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI
from PIL import Image
from tests.clients.conftest import Served

COFFEE: dict[str, Any] = {"model": "amused", "prompt": "a cup of coffee"}
QUICK = {"steps": 4, "seed": 7}


def opened(encoded: str | None) -> Image.Image:
    """Return the picture in a base64 text."""
    assert encoded is not None
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def test_models_are_listed_and_each_is_found_with_the_schemas_of_its_tasks(openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()] == ["amused", "ltx_video", "smolvlm2"]
    found = openai.models.retrieve("amused")
    assert found.object == "model"
    assert found.model_extra is not None
    assert "image.generate" in found.model_extra["tasks"]


def test_a_picture_is_the_same_as_the_one_of_a_native_job(openai: OpenAI, served: Served) -> None:
    made = openai.images.generate(**COFFEE, extra_body=QUICK, size="64x64")
    assert made.data is not None
    assert made.size == "64x64"
    assert made.usage is not None
    assert made.usage.input_tokens > 0
    job = httpx.post(
        f"{served.v1}/jobs?wait=true",
        json={"task": "image.generate", "params": {"prompt": COFFEE["prompt"], **QUICK}},
        headers={"authorization": f"Bearer {served.key}"},
        timeout=60,
    ).json()
    native = httpx.get(
        served.url + job["outputs"][0]["url"], headers={"authorization": f"Bearer {served.key}"}
    ).content
    assert opened(made.data[0].b64_json).tobytes() == Image.open(io.BytesIO(native)).tobytes()


def test_n_pictures_are_n_different_ones(openai: OpenAI) -> None:
    made = openai.images.generate(**COFFEE, n=4, extra_body=QUICK)
    pictures = {opened(image.b64_json).tobytes() for image in made.data or []}
    assert len(pictures) == 4


def test_an_address_is_absolute_and_leads_to_the_picture_with_the_key(openai: OpenAI, served: Served) -> None:
    made = openai.images.generate(**COFFEE, response_format="url", extra_body=QUICK)
    assert made.data is not None
    url = made.data[0].url
    assert url is not None
    assert url.startswith(served.url)
    assert httpx.get(url).status_code == 401
    found = httpx.get(url, headers={"authorization": f"Bearer {served.key}"})
    assert found.headers["content-type"] == "image/png"


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_the_file_has_the_type_that_was_asked_for(openai: OpenAI, format: Any) -> None:
    made = openai.images.generate(**COFFEE, output_format=format, extra_body=QUICK)
    assert made.output_format == format
    assert opened(made.data[0].b64_json).format == format.upper()


def test_a_stream_tells_partial_pictures_and_ends_with_the_whole_one(openai: OpenAI) -> None:
    asked = {"steps": 64, "seed": 7}  # long enough for previews on any machine
    with openai.images.generate(**COFFEE, stream=True, partial_images=3, extra_body=asked) as stream:
        events = list(stream)
    partial = [event for event in events if event.type == "image_generation.partial_image"]
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))
    assert 2 <= len(partial) <= 3
    assert {opened(event.b64_json).format for event in partial} == {"JPEG"}
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert len(events) == len(partial) + 1
    whole = openai.images.generate(**COFFEE, extra_body=asked)
    assert whole.data is not None
    assert opened(last.b64_json).tobytes() == opened(whole.data[0].b64_json).tobytes()


def test_what_openai_has_and_koma_has_not_is_ignored(openai: OpenAI) -> None:
    made = openai.images.generate(
        **COFFEE, quality="high", background="opaque", moderation="low", user="me", size="auto",
        output_compression=50, extra_body=QUICK | {"no_such_parameter": 1},
    )  # fmt: skip
    assert made.data is not None


@pytest.mark.parametrize(
    ("asked", "kind", "code", "param"),
    [
        ({"model": "dall-e-3", "prompt": "x"}, NotFoundError, "model_not_found", "model"),
        ({"prompt": "x", "size": "64x5"}, BadRequestError, "out_of_bounds", "size"),
        ({"prompt": "x", "size": "large"}, BadRequestError, "invalid_value", "size"),
        ({"prompt": "x", "n": 99}, BadRequestError, "out_of_bounds", "n"),
        ({"prompt": ""}, BadRequestError, "out_of_bounds", "prompt"),
        ({"prompt": "x", "response_format": "gif"}, BadRequestError, "invalid_value", "response_format"),
        ({"prompt": "x", "extra_body": {"steps": "many"}}, BadRequestError, "wrong_type", "steps"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_once_with_code_and_parameter(
    counted: Callable[..., tuple[OpenAI, list[int]]],
    asked: dict[str, Any], kind: type[APIStatusError], code: str, param: str,
) -> None:  # fmt: skip
    client, statuses = counted()
    with pytest.raises(kind) as refused:
        client.images.generate(**asked)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert refused.value.type == "invalid_request_error"
    assert len(statuses) == 1


def test_changing_a_picture_is_refused_with_a_sentence(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="No model of this server changes pictures"):
        openai.images.edit(image=b"\x89PNG", prompt="blue")
