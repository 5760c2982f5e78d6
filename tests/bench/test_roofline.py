"""Operations and bytes are those of the work, however often something is read again."""

from __future__ import annotations

import torch
from torch.nn import functional

from koma.bench.roofline import counts
from koma.bench.roofline.ceilings import Ceilings


def test_operations_are_those_of_products_convolutions_and_attention() -> None:
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    assert counts.operations(lambda: torch.relu(left @ right)) == 2 * 3 * 5 * 7
    image, kernel = torch.ones(1, 2, 8, 8), torch.ones(4, 2, 3, 3)
    assert counts.operations(lambda: functional.conv2d(image, kernel)) == 2 * 6 * 6 * 4 * 2 * 9
    heads = torch.ones(1, 2, 6, 4)
    attend = functional.scaled_dot_product_attention
    assert counts.operations(lambda: attend(heads, heads, heads)) == 2 * (2 * 2 * 6 * 6 * 4)


@torch.inference_mode()
def test_bytes_are_those_that_were_there_before_each_once() -> None:
    layer, given = torch.nn.Linear(16, 8), torch.ones(4, 16)

    def twice() -> None:
        made = layer(given) + layer(given)
        made.add_(1)

    assert counts.bytes_read(twice) == 4 * (16 * 8 + 8 + 4 * 16)


def test_the_least_time_is_set_by_whichever_ceiling_is_reached() -> None:
    best = Ceilings(operations=100.0, bytes=10.0)
    assert best.seconds(operations=200, bytes_read=1) == 2.0
    assert best.seconds(operations=1, bytes_read=50) == 5.0
