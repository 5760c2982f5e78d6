"""Questions about pictures and clips through OpenAI's client for Python: chat completions and responses."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, BadRequestError, OpenAI, UnprocessableEntityError
from tests.clients.conftest import Served

CLIP = Path(__file__).parents[2] / "priv/demo/input.mp4"
QUESTION = "What is it?"
ANSWERS = {"clip": "a sailboat", "picture": "a cup of coffee"}


def data_uri(media_type: str, content: bytes) -> str:
    """Return the bytes as a data: URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


BROKEN = data_uri("image/png", b"\x89PNG\r\n\x1a\n")


@pytest.fixture(scope="session")
def media(served: Served) -> dict[str, str]:
    """A clip and a picture as data: URIs."""
    with OpenAI(base_url=served.v1, api_key=served.key) as client:
        made = client.images.generate(model="amused", prompt="a cup of coffee", extra_body={"seed": 7})
    assert made.data is not None
    return {
        "clip": data_uri("video/mp4", CLIP.read_bytes()),
        "picture": f"data:image/png;base64,{made.data[0].b64_json}",
    }


def part(kind: str, uri: str) -> dict[str, Any]:
    """Return the part of a message that has a file, as clients write it."""
    if kind == "file":
        return {"type": "file", "file": {"filename": "clip.mp4", "file_data": uri}}
    return {"type": kind, kind: {"url": uri}}


def asked(kind: str, uri: str, question: str = QUESTION) -> list[Any]:
    """Return a conversation of one turn about a file."""
    return [{"role": "user", "content": [{"type": "text", "text": question}, part(kind, uri)]}]


@pytest.mark.parametrize(
    ("what", "kind"), [("clip", "video_url"), ("picture", "image_url"), ("clip", "file")]
)
def test_a_question_about_a_file_is_answered(
    openai: OpenAI, media: dict[str, str], what: str, kind: str
) -> None:
    answer = openai.chat.completions.create(model="smolvlm2", messages=asked(kind, media[what]))
    assert answer.choices[0].message.content == ANSWERS[what]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > answer.usage.completion_tokens > 0


@pytest.mark.parametrize(("what", "kind"), [("clip", "video_url"), ("picture", "image_url")])
def test_a_stream_has_the_same_text_piece_by_piece_and_its_usage(
    openai: OpenAI, media: dict[str, str], what: str, kind: str
) -> None:
    chunks = list(
        openai.chat.completions.create(
            model="smolvlm2", messages=asked(kind, media[what]), stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    *spoken, last = chunks
    pieces = [chunk.choices[0].delta.content for chunk in spoken if chunk.choices[0].delta.content]
    assert "".join(pieces) == ANSWERS[what]
    assert len(pieces) > 1
    assert spoken[0].choices[0].delta.role == "assistant"
    assert spoken[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


def test_an_answer_that_is_cut_says_so_and_more_tokens_than_the_model_has_are_no_error(
    openai: OpenAI, media: dict[str, str]
) -> None:
    messages = asked("image_url", media["picture"])
    cut = openai.chat.completions.create(model="smolvlm2", messages=messages, max_tokens=2)
    assert cut.choices[0].finish_reason == "length"
    whole = openai.chat.completions.create(model="smolvlm2", messages=messages, max_completion_tokens=10**6)
    assert whole.choices[0].message.content == ANSWERS["picture"]


def test_the_file_may_come_from_an_earlier_turn_and_from_this_server(
    openai: OpenAI, served: Served, media: dict[str, str]
) -> None:
    stored = httpx.post(
        f"{served.v1}/artifacts",
        files={"file": ("clip.mp4", CLIP.read_bytes(), "video/mp4")},
        headers={"authorization": f"Bearer {served.key}"},
    ).json()
    first = asked("video_url", f"{served.v1}/artifacts/{stored['id']}", "Is there a dog?")
    told = [{"role": "assistant", "content": "no"}, {"role": "user", "content": QUESTION}]
    answer = openai.chat.completions.create(model="smolvlm2", messages=[*first, *told])  # type: ignore[list-item]
    assert answer.choices[0].message.content == ANSWERS["clip"]


def test_a_response_has_the_text_and_its_stream_tells_it_piece_by_piece(
    openai: OpenAI, media: dict[str, str]
) -> None:
    content = [
        {"type": "input_text", "text": QUESTION},
        {"type": "input_image", "image_url": media["picture"]},
    ]
    asking: dict[str, Any] = {"model": "smolvlm2", "input": [{"role": "user", "content": content}]}
    response = openai.responses.create(**asking)
    assert response.output_text == ANSWERS["picture"]
    assert response.status == "completed"
    with openai.responses.create(**asking, stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == ANSWERS["picture"]
    assert len(deltas) > 1
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == ANSWERS["picture"]


@pytest.mark.parametrize(
    ("messages", "kind", "code"),
    [
        ([], BadRequestError, "wrong_type"),
        ([{"role": "user", "content": "no file"}], BadRequestError, "missing_field"),
        (asked("image_url", "https://example.org/a.png"), BadRequestError, "invalid_value"),
        (asked("image_url", "data:image/png;base64,%"), BadRequestError, "invalid_value"),
        (asked("image_url", BROKEN), UnprocessableEntityError, "invalid_media"),
        (asked("file", data_uri("application/pdf", b"%PDF-1.7")), APIStatusError, "unsupported_media"),
        (asked("image_url", "0" * 64), APIStatusError, "artifact_not_found"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], BadRequestError, "invalid_value"),
    ],
)  # fmt: skip
def test_a_conversation_that_cannot_be_answered_is_refused_with_its_place(
    openai: OpenAI, messages: list[Any], kind: type[APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as refused:
        openai.chat.completions.create(model="smolvlm2", messages=messages)
    assert refused.value.code == code
    assert (refused.value.param or "").startswith("messages")


def test_two_files_are_refused_because_the_model_looks_at_one(openai: OpenAI, media: dict[str, str]) -> None:
    messages = asked("image_url", media["picture"]) + asked("video_url", media["clip"])
    with pytest.raises(BadRequestError, match="the model looks at one"):
        openai.chat.completions.create(model="smolvlm2", messages=messages)
