"""Parameters of ``toy.run``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from koma.models.parameters import ADVANCED, MAX_SEED, WORK, Parameters

Fault = Literal[
    "none",
    "prepare",
    "step",
    "preview",
    "finish",
    "crash",
    "exit",
    "hang",
    "hang_gil",
    "oom",
    "print",
    "slow_prepare",
    "slow_finish",
]


class ToyParams(Parameters):
    """What a toy job does, and how it shall go wrong."""

    steps: int = Field(4, ge=1, le=10_000, description="Forward passes.", json_schema_extra=WORK)
    step_ms: int = Field(
        0, ge=0, le=60_000, description="Time of one forward pass; equal times share passes."
    )
    tokens: bool = Field(False, description="Make a piece of text in every step.")
    preview_bytes: int = Field(0, ge=0, le=4 << 20, description="Size of the previews; 0 makes none.")
    output_bytes: int = Field(0, ge=0, le=64 << 20, description="Least size of the result; 0 answers inline.")
    allocate_mb: int = Field(
        0, ge=0, le=4096, description="Memory that the job holds while it runs.", json_schema_extra=ADVANCED
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Decides the result.")
    fail: Fault = Field("none", description="How the job goes wrong.", json_schema_extra=ADVANCED)
    fail_at: int = Field(
        0,
        ge=0,
        le=10_000,
        description="The step (from 0) in which a fault of stepping happens.",
        json_schema_extra=ADVANCED,
    )
    fail_attempts: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Go wrong in this many attempts; null: in all.",
        json_schema_extra=ADVANCED,
    )
