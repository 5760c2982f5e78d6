"""Untrained checkpoints of the real classes, and a driver that feeds a runner as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from koma.models import registry, untrained
from koma.runtime.runner import InputFile, Request, Runner


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("untrained")
    return lambda family: untrained.build(registry.find(family), root / family)


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., Request]:
    """``request_of(runner, task, inputs=..., **params)`` -> a request with checked parameters."""
    made: list[Request] = []

    def make(
        runner: Runner, task: str, inputs: Mapping[str, InputFile] | None = None, **params: Any
    ) -> Request:
        checked = runner.tasks[task].params.model_validate(params)
        made.append(Request(f"job-{len(made)}", task, checked, inputs or {}, tmp_path / "out"))
        return made[-1]

    return make
