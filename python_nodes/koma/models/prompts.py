"""What a text encoder reads of a prompt. Nothing of a prompt is left out or unknown without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Prompts = Mapping[str, Mapping[str, Any]]
"""Name of a parameter -> :meth:`Reading.told`, as events and ``counted`` tell it."""
NEGATIVE = "negative_prompt"


@dataclass(frozen=True)
class Reading:
    """How much of a prompt is read, counted in tokens of its model: the marks of its beginning and end are
    among them, as they are among the tokens that a model is said to read."""

    tokens: int
    read: int
    unknown: int
    limit: int
    legible: bool = True
    """Whether the model knows anything of what it reads."""
    cut: bool = True
    """Whether what is beyond the limit is left out; else the prompt is refused."""

    def told(self, name: str = "prompt") -> dict[str, Any]:
        """Return it as it travels, with a ``notice`` in words where something is left out or unknown."""
        counts = {"tokens": self.tokens, "read": self.read, "unknown": self.unknown, "limit": self.limit}
        notice = self._notice(name.replace("_", " "))
        return {**counts, "notice": notice} if notice else counts

    def _notice(self, name: str) -> str:
        sentences = []
        if self.tokens > self.limit and self.cut:
            sentences.append(f"The {name} has {self.tokens} tokens; the model reads the first {self.limit}.")
        elif self.tokens > self.limit:
            sentences.append(f"The {name} has {self.tokens} tokens; the model takes at most {self.limit}.")
        if not self.legible:
            sentences.append(f"The model cannot read the {name}: all of it is unknown to it.")
        elif self.unknown:
            some, are = ("1 token", "is") if self.unknown == 1 else (f"{self.unknown} tokens", "are")
            sentences.append(f"{some} of {'it' if sentences else f'the {name}'} {are} unknown to this model.")
        return " ".join(sentences)


class Counter:
    """Counts the tokens of prompts with a copy of a tokenizer of its own: any thread may ask it at any time,
    also while others encode."""

    def __init__(self, tokenizer: Any, limit: int, *, cut: bool = True) -> None:
        backend = tokenizer.backend_tokenizer
        self._tokenizer = type(backend).from_str(backend.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._unknown = tokenizer.unk_token_id
        self._limit, self._cut = limit, cut

    def count(self, prompt: str) -> Reading:
        """Count the tokens of ``prompt``."""
        encoded = self._tokenizer.encode(prompt)
        content = [
            token for token, mark in zip(encoded.ids, encoded.special_tokens_mask, strict=True) if not mark
        ]
        known = [token for token in content[: self._limit] if token != self._unknown]
        unknown = sum(token == self._unknown for token in content)
        tokens = len(encoded.ids)
        legible = unknown == 0 or self._tokenizer.decode(known).strip() != ""
        return Reading(tokens, min(tokens, self._limit), unknown, self._limit, legible, self._cut)

    def told(self, prompts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Count several prompts, by the names of their parameters; an empty negative one is none."""
        return {
            name: self.count(text).told(name) for name, text in prompts.items() if text or name != NEGATIVE
        }


def given(params: Any) -> dict[str, str]:
    """Return the prompts of an image or a video: the negative one only where guidance makes use of it."""
    prompts = {"prompt": params.prompt}
    return prompts | {NEGATIVE: params.negative_prompt} if params.guidance_scale > 1 else prompts


def texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the prompts among parameters that nobody has checked yet."""
    return {name: params[name] for name in ("prompt", NEGATIVE) if isinstance(params.get(name), str)}


def meta(prompts: Prompts) -> dict[str, Any]:
    """Return what the ``meta`` of an output tells: ``prompt_tokens``, ``read_tokens``, ``unknown_tokens``,
    the same of the negative prompt, and the ``notice`` of both."""
    told: dict[str, Any] = {}
    for name, reading in prompts.items():
        prefix = "negative_" if name == NEGATIVE else ""
        told[f"{prefix}prompt_tokens"] = reading["tokens"]
        told[f"{prefix}read_tokens"] = reading["read"]
        told[f"{prefix}unknown_tokens"] = reading["unknown"]
    notices = [reading["notice"] for reading in prompts.values() if "notice" in reading]
    return {**told, "notice": " ".join(notices)} if notices else told
