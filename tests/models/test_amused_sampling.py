"""Sampling for all rows at once draws the tokens that ``AmusedScheduler`` draws row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from koma.models.amused.sampling import Row, sample
from koma.models.amused.schedule import make_schedule

CODES, SIDE, MASK = 96, 8, 96
TEMPERATURE = 2.5


def _scheduler(kind: str, steps: int) -> Any:
    from diffusers import AmusedScheduler

    scheduler = AmusedScheduler(mask_token_id=MASK, masking_schedule=kind)
    scheduler.set_timesteps(steps, (TEMPERATURE, 0.0))
    return scheduler


def _logits(draw: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    return (3 * torch.randn(1, CODES, SIDE, SIDE, generator=draw)).to(dtype)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_rows_at_different_steps_get_the_tokens_of_the_scheduler(kind: str, dtype: torch.dtype) -> None:
    lengths, draw = [1, 3, 7, 12], _generator(0)
    theirs = [torch.full((1, SIDE, SIDE), MASK) for _ in lengths]
    ours, seeds = torch.cat(theirs), range(len(lengths))
    stock = [_generator(seed) for seed in seeds]
    own = [_generator(seed) for seed in seeds]
    schedulers = [_scheduler(kind, steps) for steps in lengths]
    tables = [
        make_schedule(one, steps, TEMPERATURE, SIDE * SIDE, torch.device("cpu"))
        for one, steps in zip(schedulers, lengths, strict=True)
    ]
    for step in range(max(lengths)):
        here = [k for k in seeds if step < lengths[k]]
        logits = torch.cat([_logits(draw, dtype) for _ in here])
        rows = [
            Row(own[k], tables[k].masked[step], tables[k].temperatures[step], step == lengths[k] - 1)
            for k in here
        ]
        ours[here], guess = sample(logits, ours[here], rows, MASK)
        for number, k in enumerate(here):
            result = schedulers[k].step(
                logits[number : number + 1], lengths[k] - 1 - step, theirs[k], generator=stock[k]
            )
            theirs[k] = result.prev_sample
            assert torch.equal(ours[k : k + 1], theirs[k])
            assert torch.equal(guess[number : number + 1], result.pred_original_sample)
            assert torch.equal(own[k].get_state(), stock[k].get_state())


@pytest.mark.parametrize("steps", [1, 2, 5, 12, 31, 64])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_the_tables_are_those_of_the_scheduler_for_any_number_of_steps(kind: str, steps: int) -> None:
    scheduler, tokens = _scheduler(kind, steps), 1024
    table = make_schedule(scheduler, steps, TEMPERATURE, tokens, torch.device("cpu"))
    assert table.temperatures == scheduler.temperatures.tolist()
    sample = torch.full((1, tokens), MASK)
    for step in range(steps - 1):
        result = scheduler.step(
            torch.zeros(1, tokens, 4), steps - 1 - step, sample, generator=_generator(step)
        )
        assert int((result.prev_sample == MASK).sum()) == max(1, table.masked[step])


def test_logits_that_are_no_numbers_are_an_error() -> None:
    logits = torch.zeros(1, CODES, SIDE, SIDE)
    logits[0, 3, 2, 2] = float("nan")
    with pytest.raises(RuntimeError, match="not numbers"):
        sample(logits, torch.full((1, SIDE, SIDE), MASK), [Row(_generator(1), 9, 1.0, False)], MASK)
