"""Where a job's randomness comes from: its own seed, nothing else."""

from __future__ import annotations

import secrets
from typing import Any

from koma.models.parameters import MAX_SEED


def seed_of(params: Any) -> int:
    """The seed of a job; drawn here only where nobody upstream drew one."""
    return int(params.seed) if params.seed is not None else secrets.randbelow(MAX_SEED + 1)


def row_seeds(seed: int, n: int) -> list[int]:
    """Seeds of the ``n`` results of a job: the k-th can be made again alone with ``seed + k - 1``."""
    return [(seed + k) % (MAX_SEED + 1) for k in range(n)]
