"""One forward of the language model for all rows in flight: one token in and one token out for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from koma.models.smolvlm2.cache import Writer, together
from koma.models.smolvlm2.encode import AnswerState
from koma.models.smolvlm2.parts import Parts


@torch.inference_mode()
def step(parts: Parts, states: Sequence[AnswerState]) -> None:
    """Advance every state by one token. Where it raises, the states are as they were."""
    rows = together([state.row for state in states])
    logits = _forward(parts, [state.last for state in states], Writer(rows))
    drawn = [state.generator.get_state() for state in states]
    try:
        tokens = _choose(states, logits)
    except BaseException:
        for state, before in zip(states, drawn, strict=True):
            state.generator.set_state(before)
        raise
    for state, row, token in zip(states, rows, tokens, strict=True):
        state.row = row.longer()
        _take(state, token, parts.ends)


def _forward(parts: Parts, tokens: Sequence[int], cache: Writer) -> torch.Tensor:
    """Logits [rows, vocabulary] of the next token, in float32."""
    output = parts.model.model.text_model(
        input_ids=torch.tensor(tokens, device=parts.device)[:, None],
        attention_mask=cache.mask,
        position_ids=cache.positions[:, None],
        past_key_values=cache,
        use_cache=True,
    )
    logits: torch.Tensor = parts.model.lm_head(output.last_hidden_state[:, -1])
    return logits.float()


def _choose(states: Sequence[AnswerState], logits: torch.Tensor) -> list[int]:
    likeliest = logits.argmax(-1).tolist()
    return [
        best if state.temperature == 0 else draw(row, state.temperature, state.top_p, state.generator)
        for state, row, best in zip(states, logits, likeliest, strict=True)
    ]


def draw(logits: torch.Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """Draw a token from logits [vocabulary] by nucleus sampling (arXiv:1904.09751).

    The nucleus is the smallest set of likeliest tokens whose probability reaches ``top_p``; at least one.
    """
    probabilities, order = (logits / temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    nucleus = probabilities.where(before < top_p, torch.zeros_like(probabilities))
    return int(order[torch.multinomial(nucleus, 1, generator=generator)])


def _take(state: AnswerState, token: int, ends: frozenset[int]) -> None:
    """Add ``token`` to the answer, or end it."""
    state.step += 1
    ended = token in ends
    if not ended:
        state.tokens.append(token)
        state.last = token
    state.done = ended or state.step >= state.total
    state.fresh = state.stream.grown(state.tokens, ended=state.done)
    state.text += state.fresh
