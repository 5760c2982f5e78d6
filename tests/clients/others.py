"""Asks one client of others and prints what it answered as JSON; run with the Python of .venv-clients.

others.py CLIENT < {"base_url", "key", "clip", "picture"}, the latter two as data: URIs
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

QUESTION = "What is it?"


def _asked(kind: str, uri: str) -> list[Any]:
    content = [{"type": "text", "text": QUESTION}, {"type": kind, kind: {"url": uri}}]
    return [{"role": "user", "content": content}]


def litellm(base_url: str, key: str, clip: str, picture: str) -> dict[str, Any]:
    """A clip, a picture piece by piece, and a new picture."""
    import litellm

    where: dict[str, Any] = {"api_base": base_url, "api_key": key}
    model = "openai/smolvlm2"
    whole = litellm.completion(model=model, messages=_asked("video_url", clip), **where)
    chunks = litellm.completion(model=model, messages=_asked("image_url", picture), stream=True, **where)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    made = litellm.image_generation(model="openai/amused", prompt="a dog", n=2, size="64x64", **where)
    try:
        litellm.completion(model="openai/nobody", messages=_asked("image_url", picture), **where)
        refused = None
    except litellm.NotFoundError as error:
        refused = error.status_code
    return {
        "clip": whole.choices[0].message.content,
        "picture": "".join(pieces),
        "pieces": len(pieces),
        "images": len([image for image in made.data if image.b64_json]),
        "refused": refused,
    }


def langchain(base_url: str, key: str, clip: str, picture: str) -> dict[str, Any]:
    """A clip, and a picture piece by piece."""
    from langchain_core.messages import HumanMessage
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model="smolvlm2", base_url=base_url, api_key=key)

    def message(kind: str, uri: str) -> list[Any]:
        return [HumanMessage(_asked(kind, uri)[0]["content"])]

    answer = chat.invoke(message("video_url", clip))
    pieces = [chunk.content for chunk in chat.stream(message("image_url", picture)) if chunk.content]
    return {
        "clip": answer.content,
        "tokens": answer.usage_metadata["total_tokens"],
        "picture": "".join(pieces),
        "pieces": len(pieces),
    }


def huggingface(base_url: str, key: str, clip: str, picture: str) -> dict[str, Any]:
    """A clip, and a picture piece by piece."""
    from huggingface_hub import InferenceClient

    client = InferenceClient(base_url=base_url, api_key=key)
    whole = client.chat_completion(_asked("video_url", clip), model="smolvlm2")
    chunks = client.chat_completion(_asked("image_url", picture), model="smolvlm2", stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    return {
        "clip": whole.choices[0].message.content,
        "picture": "".join(pieces),
        "pieces": len(pieces),
    }


CLIENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "litellm": litellm,
    "langchain": langchain,
    "huggingface": huggingface,
}

if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]](**json.load(sys.stdin))))
