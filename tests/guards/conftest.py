"""Untrained checkpoints of the real classes, as the tests of the models use them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from koma.models import registry, untrained


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("untrained")
    return lambda family: untrained.build(registry.find(family), root / family)
