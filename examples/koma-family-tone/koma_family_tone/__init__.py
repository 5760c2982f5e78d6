"""A model family for Koma in one file: ``audio.generate`` makes a tone, one tenth of a second a step."""

from __future__ import annotations

import hashlib
import math
import struct
import wave
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import Field

from koma.models.family import Family
from koma.models.parameters import WORK, Parameters
from koma.runtime.pulse import beat
from koma.runtime.runner import Loaded, Output, Request, State, TaskSpec

RATE = 16_000
"""Samples a second."""


class ToneParams(Parameters):
    """What the tone is like."""

    pitch: float = Field(440.0, ge=20, le=7_000, description="Vibrations a second.")
    tenths: int = Field(10, ge=1, le=600, description="Length in tenths of a second.", json_schema_extra=WORK)


@dataclass(kw_only=True)
class Tone(State):
    """A tone that grows by one tenth of a second in every step."""

    samples: list[int] = field(default_factory=list)


class ToneRunner:
    """The phases; see :class:`koma.runtime.runner.Runner`."""

    preparers = 1
    tasks: Mapping[str, TaskSpec] = {
        "audio.generate": TaskSpec(ToneParams, {}, {"tone": "audio/wav"}, steps=lambda params: params.tenths)
    }

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def prepare(self, request: Request) -> Tone:
        """Begin with silence."""
        beat()  # a cancelled job ends here
        return Tone(request=request, total=request.params.tenths)

    def key(self, state: State) -> Hashable:
        """All tones share steps."""
        return "tone"

    def step(self, states: Sequence[State]) -> None:
        """Add a tenth of a second to each tone."""
        for state in states:
            tone = cast(Tone, state)
            turn = 2 * math.pi * tone.request.params.pitch / RATE
            begin = len(tone.samples)
            tone.samples += [round(20_000 * math.sin(turn * n)) for n in range(begin, begin + RATE // 10)]
            tone.step += 1
            tone.done = tone.step == tone.total

    def text(self, state: State) -> str:
        """A tone has no text."""
        return ""

    def preview(self, state: State) -> None:
        """A tone has no picture."""
        return None

    def finish(self, state: State) -> list[Output]:
        """Write the WAV file."""
        tone = cast(Tone, state)
        seconds = []
        for begin in range(0, len(tone.samples), RATE):
            beat()
            part = tone.samples[begin : begin + RATE]
            seconds.append(struct.pack(f"<{len(part)}h", *part))
        path = tone.request.folder() / "tone.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(b"".join(seconds))
        return [Output("tone", "audio/wav", path=path, meta={"seconds": tone.total / 10})]


def load(checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]) -> ToneRunner:
    """Return the runner; a tone needs no weights."""
    digest = hashlib.sha256(b"tone 1").hexdigest()
    return ToneRunner(Loaded("tone", checkpoint, digest, "cpu", "none"))


FAMILY = Family(name="tone", load=load, default="tone")
