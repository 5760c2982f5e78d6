"""Operations and bytes of one forward, counted while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _attention(query: Any, key: Any, value: Any, *_others: Any, **_named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


_ATTENTION_ON_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""Not among those that the counter knows; it gives shapes for tensors."""


def operations(action: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, convolutions and attention while ``action`` runs; a
    multiplication and an addition are two."""
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION_ON_CPU) as counter:
        action()
    return int(counter.get_total_flops())


def bytes_read(action: Callable[[], object]) -> int:
    """Bytes of all tensors that were there before ``action`` and are read by it, each once: weights, and what
    the jobs keep. What it makes and reads again may stay in caches, so this is the least."""
    reads = _Reads()
    with reads:
        action()
    return sum(reads.before.values())


class _Reads(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.before: dict[int, int] = {}
        """Address of a storage -> its bytes."""
        self._made: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for tensor in _tensors((args, kwargs or {})):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._made:
                self.before[storage.data_ptr()] = storage.nbytes()
        result = func(*args, **(kwargs or {}))
        fresh = {tensor.untyped_storage().data_ptr() for tensor in _tensors(result)}
        self._made |= fresh - set(self.before)
        return result


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
