"""One forward of the U-ViT for all rows in flight, then one scheduler step for all of them.

The U-ViT takes no timestep, so rows at different steps share a forward as they are (MaskGIT,
arXiv:2202.04200;
aMUSEd, arXiv:2401.01808).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from koma.models.amused.encode import ImageState
from koma.models.amused.parts import Parts
from koma.models.amused.sampling import Row, sample


@torch.inference_mode()
def step(parts: Parts, states: Sequence[ImageState]) -> None:
    """Advance every state by one step. All must have the same token grid; guidance may differ, also be off.

    Where it raises, the states are as they were, their generators too.
    """
    # Guided ones first, so that guidance is one operation for all of them.
    states = sorted(states, key=lambda state: state.null is None)
    logits = _guided(states, _forward(parts, states))
    drawn = [[generator.get_state() for generator in state.generators] for state in states]
    rows = [row for state in states for row in _rows(state)]
    try:
        kept, guess = sample(logits, torch.cat([state.tokens for state in states]), rows, parts.mask_id)
    except BaseException:
        for state, before in zip(states, drawn, strict=True):
            for generator, one in zip(state.generators, before, strict=True):
                generator.set_state(one)
        raise
    counts = [len(state.tokens) for state in states]
    for state, tokens, own_guess in zip(states, kept.split(counts), guess.split(counts), strict=True):
        state.tokens, state.guess = tokens, own_guess
        state.step += 1
        state.done = state.step >= state.total


def _rows(state: ImageState) -> list[Row]:
    schedule, now = state.schedule, state.step
    last = now == state.total - 1
    return [Row(one, schedule.masked[now], schedule.temperatures[now], last) for one in state.generators]


def _forward(parts: Parts, states: Sequence[ImageState]) -> torch.Tensor:
    """Logits [rows, codes, height, width]: the unguided rows of all guided states, then one row per image."""
    texts = [(state, state.null) for state in states if state.null is not None]
    texts += [(state, state.text) for state in states]
    tokens, pooled, hidden, micro = [], [], [], []
    for state, text in texts:
        n = len(state.tokens)
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


def _guided(states: Sequence[ImageState], logits: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance (arXiv:2207.12598): [images, codes, height, width]."""
    scales = [state.guidance for state in states if state.null is not None for _ in state.generators]
    without, with_prompt, plain = logits.split([len(scales), len(scales), len(logits) - 2 * len(scales)])
    scale = torch.tensor(scales, device=logits.device)[:, None, None, None]
    stronger = (scale * (with_prompt - without)).to(logits.dtype)
    return torch.cat([without + stronger, plain])
