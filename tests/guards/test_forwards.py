"""What a workload costs a model node, counted: forwards, operations of torch, objects of Python."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from koma.models import registry
from koma.models.media import encode as media
from koma.runtime.runner import InputFile, Request

TASKS = {"amused": "image.generate", "ltx_video": "video.generate", "smolvlm2": "video.understand"}
OPERATIONS = {"amused": (500, 15), "ltx_video": (300, 15), "smolvlm2": (190, 5)}
"""Family -> operations of torch in a step of one row, and more for each further row."""
OBJECTS = 8
"""Blocks of Python's allocator that a step of a row may leave behind: what a job keeps of it."""


class Operations(TorchDispatchMode):
    """Counts what reaches a device: each is at least one allocation and one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class Node:
    """A runner and requests for it, unlike each other."""

    def __init__(self, family: str, folder: Path, checkpoint: Path) -> None:
        self.runner = cast(Any, registry.load(family, str(checkpoint), "cpu", "float32", 8, {}))
        if family == "smolvlm2":  # untrained answers end anywhere; here they go on
            self.runner._parts.model.generation_config.eos_token_id = -1
        self._family, self._folder = family, folder

    def states(self, count: int) -> list[Any]:
        """Prepare so many jobs."""
        return [self.runner.prepare(self.request(number)) for number in range(count)]

    def request(self, number: int) -> Request:
        """One job."""
        params: dict[str, Any] = {"prompt": f"number {number}", "seed": number}
        params |= {"max_new_tokens": 24} if self._family == "smolvlm2" else {"steps": 24}
        spec = self.runner.tasks[TASKS[self._family]]
        checked = spec.params.model_validate(params)
        folder = self._folder / str(number)
        return Request(f"job-{number}", TASKS[self._family], checked, self._inputs(number), folder)

    def _inputs(self, number: int) -> Mapping[str, InputFile]:
        if self._family != "smolvlm2":
            return {}
        noise = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        path = media.write_png(self._folder, noise)
        return {"image": InputFile(path, f"digest {number}", "image/png", path.stat().st_size)}


@pytest.fixture(params=list(TASKS))
def node(request: pytest.FixtureRequest, tmp_path: Path, checkpoint: Callable[[str], Path]) -> Node:
    torch.set_num_threads(1)
    return Node(request.param, tmp_path, checkpoint(request.param))


def _operations(node: Node, rows: int) -> int:
    states = node.states(rows)
    node.runner.step(states)
    with Operations() as counted:
        node.runner.step(states)
    return counted.count


def test_a_step_takes_a_bounded_number_of_operations_and_few_more_for_each_row(
    node: Node, request: pytest.FixtureRequest
) -> None:
    alone, together = _operations(node, 1), _operations(node, 5)
    bound, more = OPERATIONS[request.node.callspec.params["node"]]
    assert alone <= bound
    assert (together - alone) / 4 <= more


def test_steps_leave_few_objects_behind(node: Node) -> None:
    states = node.states(2)
    for _ in range(4):
        node.runner.step(states)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(10):
        node.runner.step(states)
    gc.collect()
    assert (sys.getallocatedblocks() - before) / 20 <= OBJECTS
