"""How much of a prompt the models read is counted and told, with the tokenizers that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import koma
from koma.models.prompts import Counter, Reading, meta
from koma.models.torchvision_shim import make_torchvision_importable

EMOJI = Path(koma.__path__[0]) / "checkpoints" / "emoji"
LONG = "a red sailboat moves right on the sea " * 10


def _tokenizer(family: str) -> Any:
    make_torchvision_importable()
    from transformers import AutoTokenizer, CLIPTokenizer

    kind = CLIPTokenizer if family == "amused" else AutoTokenizer
    return kind.from_pretrained(EMOJI / family / "tokenizer")


@pytest.fixture(scope="module", params=["amused", "ltx-video"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return _tokenizer(request.param)


@pytest.mark.parametrize("prompt", ["", "a cup", LONG, "日本 🙂 é", "   ", "x" * 4000])
def test_what_is_counted_is_what_the_model_gets(tokenizer: Any, prompt: str) -> None:
    limit = tokenizer.model_max_length
    counted = Counter(tokenizer, limit).count(prompt)
    assert counted.tokens == len(tokenizer(prompt).input_ids)
    assert counted.read == len(tokenizer(prompt, truncation=True, max_length=limit).input_ids)


def test_a_count_leaves_the_tokenizer_that_encodes_as_it_is(tokenizer: Any) -> None:
    encode = {"padding": "max_length", "truncation": True, "max_length": 32}
    before = tokenizer(LONG, **encode).input_ids
    counter = Counter(tokenizer, 32)
    assert counter.count(LONG).tokens > 32
    assert tokenizer(LONG, **encode).input_ids == before
    assert counter.count(LONG).tokens > 32


def test_a_prompt_that_is_cut_says_how_many_tokens_are_read() -> None:
    told = Counter(_tokenizer("amused"), 32).told({"prompt": LONG, "negative_prompt": ""})
    assert list(told) == ["prompt"]
    tokens = told["prompt"]["tokens"]
    assert tokens > told["prompt"]["read"] == told["prompt"]["limit"] == 32
    assert told["prompt"]["notice"] == f"The prompt has {tokens} tokens; the model reads the first 32."


@pytest.mark.parametrize("prompt", ["日本", "🚀", "人工智能 新疆", "→"])
def test_a_prompt_that_the_model_cannot_read_at_all_says_so(prompt: str) -> None:
    told = Counter(_tokenizer("ltx-video"), 32).told({"prompt": prompt})["prompt"]
    assert told["unknown"] > 0
    assert told["notice"] == "The model cannot read the prompt: all of it is unknown to it."


def test_unknown_tokens_among_known_ones_are_counted() -> None:
    told = Counter(_tokenizer("ltx-video"), 32).told(
        {"prompt": "a red 杯 on the 海", "negative_prompt": "🙂 sea"}
    )
    assert told["prompt"]["unknown"] == 2
    assert told["prompt"]["notice"] == "2 tokens of the prompt are unknown to this model."
    assert told["negative_prompt"]["notice"] == "1 token of the negative prompt is unknown to this model."
    assert meta(told) == {
        "prompt_tokens": told["prompt"]["tokens"],
        "read_tokens": told["prompt"]["read"],
        "unknown_tokens": 2,
        "negative_prompt_tokens": told["negative_prompt"]["tokens"],
        "negative_read_tokens": told["negative_prompt"]["read"],
        "negative_unknown_tokens": 1,
        "notice": f"{told['prompt']['notice']} {told['negative_prompt']['notice']}",
    }


def test_a_prompt_that_is_read_whole_gives_no_notice() -> None:
    for family in ("amused", "ltx-video"):
        told = Counter(_tokenizer(family), 32).told({"prompt": "a red cup"})
        assert "notice" not in told["prompt"]
        assert "notice" not in meta(told)


def test_a_prompt_that_would_be_refused_names_the_bound_and_not_what_is_read_of_it() -> None:
    notice = Reading(3000, 2048, 0, 2048, cut=False).told()["notice"]
    assert notice == "The prompt has 3000 tokens; the model takes at most 2048."
