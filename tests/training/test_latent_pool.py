"""Guarantees of the pool of encoded clips."""

from __future__ import annotations

import torch

from koma.training.latent_pool import Encoded, LatentPool


def make_pool(made: list[int]) -> LatentPool:
    def encode(number: int) -> Encoded:
        made.append(number)
        values = torch.full((4, 1, 1), float(number))
        return Encoded(values, values[:, :, 0].long(), values[:, :, 0] > 0)

    return LatentPool(encode, chunks=3, refresh=10)


def chunks_drawn(pool: LatentPool, step: int) -> set[int]:
    return {int(v) for v in pool.draw(step, 200, torch.Generator().manual_seed(step)).latents.flatten()}


def test_the_oldest_chunk_is_replaced_every_refresh_and_each_is_encoded_once() -> None:
    made: list[int] = []
    pool = make_pool(made)
    drawn = [chunks_drawn(pool, step) for step in (0, 9, 10, 25)]
    assert drawn == [{0, 1, 2}, {0, 1, 2}, {1, 2, 3}, {2, 3, 4}]
    assert made == [0, 1, 2, 3, 4]


def test_what_is_drawn_depends_on_the_step_and_not_on_where_the_run_began() -> None:
    early, late = make_pool([]), make_pool([])
    for step in range(40):
        early.draw(step, 8, torch.Generator().manual_seed(step))
    assert chunks_drawn(early, 40) == chunks_drawn(late, 40)


def test_latents_and_captions_stay_together() -> None:
    drawn = make_pool([]).draw(0, 50, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.latents[:, :, 0].long(), drawn.ids)
