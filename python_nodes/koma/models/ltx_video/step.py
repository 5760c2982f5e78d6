"""One forward of the transformer for all rows in flight, then one Euler step per row, each with its own
sigmas.

Rectified flow (arXiv:2209.03003) as LTX-Video trains it (arXiv:2501.00103): at x = (1 - sigma) x0 + sigma
eps the model says v = eps - x0. Timesteps and rotary positions are per row, so rows at different steps, of
different shapes (with as many tokens), frame rates and conditions share a forward.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from koma.models.ltx_video.encode import VideoState
from koma.models.ltx_video.parts import Parts


@torch.inference_mode()
def step(parts: Parts, states: Sequence[VideoState]) -> None:
    """Advance every state by one step. All must have the same number of tokens.

    Where it raises, the states are as they were, their generators too.
    """
    velocities = _forward(parts, states).split([1 if state.null is None else 2 for state in states])
    drawn = [state.generator.get_state() for state in states]
    try:
        results = [_moved(state, _guided(state, own)) for state, own in zip(states, velocities, strict=True)]
    except BaseException:
        for state, before in zip(states, drawn, strict=True):
            state.generator.set_state(before)
        raise
    for state, (latents, guess) in zip(states, results, strict=True):
        state.latents, state.guess = latents, guess
        state.step += 1
        state.done = state.step >= state.total


def _forward(parts: Parts, states: Sequence[VideoState]) -> torch.Tensor:
    """Velocities [rows, tokens, channels] in float32; a guided state has its unguided row before its guided
    one."""
    rows = [
        (state, text)
        for state in states
        for text in ((state.text,) if state.null is None else (state.null, state.text))
    ]
    texts, mask = _padded([text for _, text in rows])
    velocities: torch.Tensor = parts.transformer(
        hidden_states=torch.cat([state.latents for state, _ in rows]).to(parts.dtype),
        encoder_hidden_states=texts,
        timestep=_timesteps([state for state, _ in rows]),
        encoder_attention_mask=mask,
        video_coords=torch.cat([state.coords for state, _ in rows]),
        return_dict=False,
    )[0]
    return velocities.float()


def _padded(texts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts of several lengths as [rows, longest, width] and the mask [rows, longest] of what is real."""
    padded = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    lengths = torch.tensor([len(text) for text in texts], device=padded.device)
    mask = torch.arange(padded.shape[1], device=padded.device)[None] < lengths[:, None]
    return padded, mask


def _timesteps(rows: Sequence[VideoState]) -> torch.Tensor:
    """Timesteps [rows], or [rows, tokens] where a row has a given first frame: its tokens are at time 0."""
    times = torch.stack([state.schedule.timesteps[state.step] for state in rows])
    if all(state.fixed is None for state in rows):
        return times
    free = [
        torch.ones_like(state.latents[0, :, 0]) if state.fixed is None else 1 - state.fixed for state in rows
    ]
    return times[:, None] * torch.stack(free)


def _guided(state: VideoState, velocities: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance (arXiv:2207.12598): [1, tokens, channels]."""
    if state.null is None:
        return velocities
    without, with_prompt = velocities.chunk(2)
    return without + state.guidance * (with_prompt - without)


def _moved(state: VideoState, velocity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One Euler step with the state's own noise levels: new latents and the guess; given tokens stay."""
    sigma, following = state.schedule.sigmas[state.step], state.schedule.sigmas[state.step + 1]
    guess = state.latents - sigma * velocity
    moved = state.latents + (following - sigma) * velocity
    if state.schedule.stochastic:
        noise = torch.randn(guess.shape, generator=state.generator).to(guess.device)
        moved = (1 - following) * guess + following * noise
    if state.fixed is None:
        return moved, guess
    given = state.fixed[None, :, None].bool()
    return torch.where(given, state.latents, moved), torch.where(given, state.latents, guess)
