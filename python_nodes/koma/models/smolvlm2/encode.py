"""Prompt -> token ids, request -> state with the prompt's keys and values."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from koma.errors import KomaError
from koma.models import prompts
from koma.models.seeds import seed_of
from koma.models.smolvlm2.cache import AllRead, Reader, Row, from_layers
from koma.models.smolvlm2.parts import Parts
from koma.models.smolvlm2.text import TextStream
from koma.models.smolvlm2.vision import Sight, Vision
from koma.runtime.pulse import beat
from koma.runtime.runner import Request, State


@dataclass(kw_only=True)
class AnswerState(State):
    """A job of one answer: one row of a forward."""

    row: Row
    """Keys and values of everything before ``last``"""
    last: int
    """The token that the next step reads: the last one of the prompt, then of the answer"""
    temperature: float
    top_p: float
    generator: torch.Generator
    seed: int
    stream: TextStream
    sight: Sight
    tokens: list[int] = field(default_factory=list)
    """The answer so far, without the token that ended it"""
    fresh: str = ""
    """Text that became certain in the last step"""
    text: str = ""
    """All text that is certain"""


@torch.inference_mode()
def start(request: Request, parts: Parts, vision: Vision) -> AnswerState:
    """Make the state of a new job: look at its input and read the prompt, but for its last token.

    That one is read by the first step, so that every step is alike: one token in, one token out.
    """
    beat()
    params = request.params
    _check_prompt(params.prompt, parts)
    see = vision.look(request)
    with parts.turns.turn():
        sight = see()
        ids = prompt_ids(params.prompt or f"Describe this {sight.kind}.", sight, parts)
        _check_length(len(ids), params.max_new_tokens, parts)
        row = _read(ids[:-1], sight, parts)
    seed = seed_of(params)
    return AnswerState(
        request=request,
        total=params.max_new_tokens,
        prompts={"prompt": _reading(ids, parts).told()},
        row=row,
        last=int(ids[-1]),
        temperature=params.temperature,
        top_p=params.top_p,
        generator=torch.Generator(parts.device).manual_seed(seed),
        seed=seed,
        stream=TextStream(parts.processor.tokenizer),
        sight=sight,
    )


def prompt_ids(prompt: str, sight: Sight, parts: Parts) -> torch.Tensor:
    """Token ids [n] of the conversation, with one placeholder for each feature of ``sight``."""
    processor = parts.processor
    content = [{"type": sight.kind}, {"type": "text", "text": prompt}]
    conversation = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    placeholder = processor.video_token if sight.kind == "video" else processor.image_token
    ids: torch.Tensor = processor.tokenizer(
        text.replace(placeholder, sight.text, 1), return_tensors="pt"
    ).input_ids[0]
    return ids


def _check_prompt(prompt: str | None, parts: Parts) -> None:
    """Refuse prompts with a mark of the chat format, which would be read as pictures or another speaker."""
    processor = parts.processor
    for mark in [*processor.tokenizer.all_special_tokens, processor.video_token]:
        if prompt is not None and mark in prompt:
            raise KomaError(
                "invalid_value", f"prompt: {mark} is a mark of the chat format", field="prompt", value=mark
            )


def _reading(ids: torch.Tensor, parts: Parts) -> prompts.Reading:
    """All of the conversation is read, or it is refused: the prompt, and what stands for the frames."""
    unknown = int((ids == parts.processor.tokenizer.unk_token_id).sum())
    return prompts.Reading(len(ids), len(ids), unknown, parts.context)


def _check_length(prompt: int, answer: int, parts: Parts) -> None:
    room = parts.context - prompt
    if answer <= room:
        return
    message = (
        f"prompt and frames take {prompt} of {parts.context} tokens; {max(room, 0)} are left for the answer"
    )
    if room > 0:
        raise KomaError("out_of_bounds", message, field="max_new_tokens", value=answer, bound=room)
    raise KomaError("out_of_bounds", message, field="prompt", value=prompt, bound=parts.context)


def _read(ids: torch.Tensor, sight: Sight, parts: Parts) -> Row:
    """Run the prompt through the language model once and keep its keys and values."""
    model: Any = parts.model.model
    ids = ids.to(parts.device)[None]
    embedded = model.text_model.get_input_embeddings()(ids)
    places = (ids == parts.model.config.image_token_id)[..., None]
    features = sight.features.to(embedded.dtype)
    reader = Reader(len(model.text_model.layers))
    with suppress(AllRead):
        model.text_model(
            inputs_embeds=embedded.masked_scatter(places, features), past_key_values=reader, use_cache=True
        )
    return from_layers(reader.layers)
