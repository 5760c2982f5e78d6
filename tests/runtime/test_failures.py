"""Exceptions of libraries become codes; memory that ran out and a lost device are told apart."""

from __future__ import annotations

import pytest
import torch

from koma.errors import KomaError
from koma.runtime.failures import MAX_MESSAGE, to_error
from koma.runtime.memory import is_device_lost, is_out_of_memory, release


def test_a_real_allocation_that_does_not_fit_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**56, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    assert to_error(error.value).code == "out_of_memory"


@pytest.mark.parametrize(
    ("error", "memory", "lost"),
    [
        (MemoryError(), True, False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True, False),
        (RuntimeError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("CUDA error: only a value"), False, False),
        (KomaError("internal", "out of memory, says a text"), False, False),
    ],
)
def test_memory_and_a_lost_device_are_told_apart(error: BaseException, memory: bool, lost: bool) -> None:
    assert (is_out_of_memory(error), is_device_lost(error)) == (memory, lost)


@pytest.mark.parametrize("text", ["", "x" * 10_000, "first\nsecond", "\n"])
def test_a_message_is_one_short_line_that_names_the_kind_of_error(text: str) -> None:
    told = to_error(ValueError(text))
    assert told.code == "model_failed"
    assert told.message.startswith("ValueError")
    assert len(told.message) <= MAX_MESSAGE
    assert "\n" not in told.message


def test_releasing_memory_lets_go_of_what_the_failed_call_held() -> None:
    held = []

    class Big:
        def __del__(self) -> None:
            held.append("released")

    def work() -> None:
        big = Big()
        raise MemoryError(f"{type(big).__name__} did not fit")

    with pytest.raises(MemoryError) as caught:
        work()
    error = caught.value
    del caught
    release(error)
    assert held == ["released"]
