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
    """Advance every state by one step. All must have the same token grid; guidance may differ, also be
    off."""
    logits = _forward(parts, states)
    first = 0
    for state in states:
        rows = _rows(state)
        _advance(state, _guided(state, logits[first : first + rows]))
        first += rows


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


def _advance(state: ImageState, logits: torch.Tensor) -> None:
    """Sample every row with its own generator and keep what the schedule says."""
    timestep = state.total - 1 - state.step
    results = [
        state.scheduler.step(logits[k : k + 1], timestep, state.tokens[k : k + 1], generator=generator)
        for k, generator in enumerate(state.generators)
    ]
    state.tokens = torch.cat([result.prev_sample for result in results])
    state.guess = torch.cat([result.pred_original_sample for result in results])
    state.step += 1
    state.done = state.step >= state.total
