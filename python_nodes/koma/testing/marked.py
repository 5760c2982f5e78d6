"""Reads the marks of outputs back, with the readers that anybody may use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

from koma.provenance.mark import detect, search
from koma.provenance.mark.blocks import Pixels
from koma.provenance.mark.evidence import Reading
from koma.provenance.settings import Settings
from koma.provenance.signing import files
from koma.provenance.step import Provenance
from koma.runtime.runner import Loaded, Output, Runner, State

MAX_FRAMES = 16
"""Frames of a video that vote."""


class Checks:
    """Marks of a server that exists only here: its keys lie in ``keys``."""

    def __init__(self, keys: Path, loaded: Loaded) -> None:
        self.provenance = Provenance.open(Settings(keys), loaded, "test")

    def finish(self, runner: Runner, state: State) -> list[Output]:
        """Finish a job as the engine does."""
        with self.provenance.session(state.request) as session:
            return session.sealed(runner.finish(state))

    def holds(self, output: Output) -> tuple[bool, str]:
        """Return whether the output bears the marks that its meta tells of, and a sentence about it."""
        if "marks" not in output.meta or output.path is None:
            media = output.media_type.startswith(("image/", "video/", "audio/"))
            return not media, f"the output {output.name} bears no marks"
        told = output.meta["marks"]
        if "id" in told:
            reading = self.reading(output.path, output.media_type)
            if reading is None or not reading.found or reading.payload.id != told["id"]:
                return False, f"the invisible mark of {output.name} is not {told['id']}: {reading}"
        return self.statement(output).state == "Trusted", f"the statement of {output.name} is not trusted"

    def statement(self, output: Output) -> files.Read:
        """Read the signed statement of an output."""
        signer = self.provenance.signer
        if signer is None or output.path is None:
            raise ValueError("the output is not signed")
        with output.path.open("rb") as file:
            return files.read(file, output.media_type, [signer.chain.anchors])

    def reading(self, path: Path, media_type: str) -> Reading | None:
        """Read the invisible mark where it was put."""
        return detect.detect(frames(path, media_type), self.provenance.pattern, [search.in_place])


def frames(path: Path, media_type: str) -> Sequence[Pixels]:
    """Return the pixels of a picture, or of the first frames of a video."""
    if media_type.startswith("image/"):
        with Image.open(path) as image:
            return [np.asarray(image.convert("RGB"))]
    with av.open(str(path)) as container:
        pictures = container.decode(video=0)
        return [
            frame.to_ndarray(format="rgb24") for _, frame in zip(range(MAX_FRAMES), pictures, strict=False)
        ]
