"""One forward of the U-ViT for all rows in flight, then one scheduler step per row.

The U-ViT takes no timestep, so rows at different steps share a forward as they are (MaskGIT,
arXiv:2202.04200;
aMUSEd, arXiv:2401.01808).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from koma.models.amused.encode import ImageState
from koma.models.amused.parts import Parts


@torch.inference_mode()
def step(parts: Parts, states: Sequence[ImageState]) -> None:
    """Advance every state by one step. All must have the same token grid; guidance may differ, also be off.

    Where it raises, the states are as they were, their generators too.
    """
    logits = _forward(parts, states)
    drawn = [[generator.get_state() for generator in state.generators] for state in states]
    try:
        results = [
            _sampled(state, _guided(state, own))
            for state, own in zip(states, logits.split([_rows(state) for state in states]), strict=True)
        ]
    except BaseException:
        for state, before in zip(states, drawn, strict=True):
            for generator, one in zip(state.generators, before, strict=True):
                generator.set_state(one)
        raise
    for state, (tokens, guess) in zip(states, results, strict=True):
        state.tokens, state.guess = tokens, guess
        state.step += 1
        state.done = state.step >= state.total


def _rows(state: ImageState) -> int:
    return len(state.tokens) * (1 if state.null is None else 2)


def _forward(parts: Parts, states: Sequence[ImageState]) -> torch.Tensor:
    """Logits [rows, codes, height, width]; a guided state has its unguided rows before its guided ones."""
    tokens, pooled, hidden, micro = [], [], [], []
    for state in states:
        n = len(state.tokens)
        for text in (state.text,) if state.null is None else (state.null, state.text):
            tokens.append(state.tokens)
            pooled.append(text.pooled.expand(n, -1))
            hidden.append(text.hidden.expand(n, -1, -1))
            micro.append(state.micro.expand(n, -1))
    logits: torch.Tensor = parts.transformer(
        torch.cat(tokens),
        micro_conds=torch.cat(micro),
        pooled_text_emb=torch.cat(pooled),
        encoder_hidden_states=torch.cat(hidden),
    )
    return logits


def _guided(state: ImageState, logits: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance (arXiv:2207.12598): [n, codes, height, width]."""
    if state.null is None:
        return logits
    without, with_prompt = logits.chunk(2)
    return without + state.guidance * (with_prompt - without)


def _sampled(state: ImageState, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample every row with its own generator: the tokens that the schedule keeps, and the guess of all."""
    timestep = state.total - 1 - state.step
    results = [
        state.scheduler.step(logits[k : k + 1], timestep, state.tokens[k : k + 1], generator=generator)
        for k, generator in enumerate(state.generators)
    ]
    kept = torch.cat([result.prev_sample for result in results])
    return kept, torch.cat([result.pred_original_sample for result in results])
