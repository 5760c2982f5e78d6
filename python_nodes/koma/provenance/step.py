"""The step between the pixels and the file, the same for every family: mark, encode, sign last.

provenance = Provenance.open(settings, runner.loaded, version)     once, when the checkpoint is loaded
with provenance.session(request) as session:                       at the end of every job
    outputs = session.sealed(runner.finish(state))
"""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from koma.errors import KomaError
from koma.provenance import stamp
from koma.provenance.mark import embed, pattern, payload
from koma.provenance.mark.pattern import Pattern
from koma.provenance.mark.payload import Payload
from koma.provenance.settings import Settings
from koma.provenance.signing import chain, files, keys, statement
from koma.provenance.stamp import Frames, Stamp
from koma.runtime.pulse import beat
from koma.runtime.runner import Loaded, Output, Request

NOTICE = datetime.timedelta(days=60)
"""So long before its end every start warns of the end of a certificate."""
_log = logging.getLogger(__name__)
MARK_NAME = "koma-qim-1"
"""What results call the invisible mark."""
_PIXELS, _MEDIA = ("image/", "video/"), ("image/", "video/", "audio/")


class Provenance:
    """What a model node needs to mark its outputs; made once, used from several threads."""

    def __init__(
        self, settings: Settings, loaded: Loaded, version: str, key: Pattern, signer: files.Signer | None
    ) -> None:
        self.settings, self.loaded, self.version = settings, loaded, version
        self.pattern, self.signer = key, signer

    @classmethod
    def open(cls, settings: Settings, loaded: Loaded, version: str) -> Provenance:
        """Make or read the keys, sign a picture and read it back.

        Raises KomaError ``provenance_failed`` with a sentence where this does not work: no output would
        bear its marks.
        """
        try:
            keys.prepare(settings.folder)
            secret = (settings.folder / keys.MARK_KEY).read_bytes()
        except (OSError, ValueError) as error:
            message = f"the keys in {settings.folder} cannot be made or read: {error}"
            raise KomaError("provenance_failed", message, field="provenance") from error
        if len(secret) < keys.MARK_KEY_BYTES:
            message = f"{settings.folder / keys.MARK_KEY} has {len(secret)} bytes, not {keys.MARK_KEY_BYTES}"
            raise KomaError("provenance_failed", message, field="provenance")
        signer = None
        if settings.signed:
            signer = files.Signer(chain.load(settings), settings.timestamps)
            signer.check()
            _warn_of_end(signer.chain.certificates)
        return cls(settings, loaded, version, pattern.of_key(secret), signer)

    @contextmanager
    def session(self, request: Request) -> Iterator[Session]:
        """Mark every picture and video that is written inside; ``Session.sealed`` then signs the files."""
        session = Session(self, request)
        with stamp.stamping(session):
            yield session


@dataclass(frozen=True)
class _Written:
    """What the writer of one file was given."""

    id: str
    marked: bool
    """False where the picture is too small for a mark, or the operator wants none."""


class Session:
    """The marks of one job."""

    def __init__(self, provenance: Provenance, request: Request) -> None:
        self._provenance, self._request = provenance, request
        self._written: dict[Path, _Written] = {}

    def begin(self, frames: Frames, path: Path) -> Stamp:
        """Return how ``frames`` are marked. The id is of their pixels: equal results bear equal marks, also
        after a retry and in a batch with others."""
        id = _content_id(frames)
        height, width = frames[0].shape[:2]
        wanted = self._provenance.settings.invisible and embed.fits(height, width)
        self._written[path.resolve()] = _Written(id, wanted)
        if not wanted:
            return lambda frame: frame
        return embed.Marker(self._provenance.pattern, Payload(payload.VERSION, id)).mark

    def sealed(self, outputs: Sequence[Output]) -> list[Output]:
        """Sign the files of ``outputs`` and return them with ``marks`` in their meta.

        Raises KomaError ``provenance_failed`` for a picture or a video that bears no mark, and for a medium
        that cannot be signed.
        """
        return [self._seal(output) if output.media_type.startswith(_MEDIA) else output for output in outputs]

    def _seal(self, output: Output) -> Output:
        written = None if output.path is None else self._written.get(output.path.resolve())
        if output.path is None:
            raise _failed(output, "is a medium in a text, which bears no mark")
        if written is None and self._provenance.settings.invisible and output.media_type.startswith(_PIXELS):
            raise _failed(output, "bears no invisible mark: write it with koma.models.media.encode")
        told: dict[str, Any] = {}
        if written is not None and written.marked:
            told = {"invisible": MARK_NAME, "id": written.id}
        self._sign(output, output.path, written)
        marks = {**told, "signed": self._provenance.signer is not None}
        return replace(output, meta={**output.meta, "marks": marks})

    def _sign(self, output: Output, path: Path, written: _Written | None) -> None:
        signer = self._provenance.signer
        if signer is None:
            return
        if output.media_type not in files.TYPES:
            raise _failed(output, f"is {output.media_type}, which cannot be signed")
        try:
            signer.sign_file(path, output.media_type, self._statement(output, written, inputs=True))
        except files.IngredientError:
            # An input that models read may be too damaged for its own statement; its digest is told anyway.
            signer.sign_file(path, output.media_type, self._statement(output, written, inputs=False))

    def _statement(self, output: Output, written: _Written | None, *, inputs: bool) -> statement.Statement:
        mark = None
        if written is not None and written.marked:
            mark = {"alg": MARK_NAME, "version": payload.VERSION, "id": written.id}
        return statement.of_output(
            output.name,
            output.media_type,
            self._request,
            self._provenance.loaded,
            self._provenance.version,
            mark=mark,
            prompts=self._provenance.settings.prompts,
            inputs=inputs,
        )


def _warn_of_end(certificates: bytes) -> None:
    """A chain of an operator's own is not renewed by itself, and an ended one signs nothing."""
    end = keys.expires(certificates)
    if end - datetime.datetime.now(datetime.UTC) < NOTICE:
        _log.warning("the certificate that signs outputs ends on %s; put a new one in its place", end.date())


def _content_id(frames: Frames) -> str:
    hasher = hashlib.sha256()
    for frame in frames:
        beat()
        hasher.update(f"{frame.shape}".encode())
        hasher.update(frame.tobytes())
    return hasher.hexdigest()[: payload.ID_DIGITS]


def _failed(output: Output, why: str) -> KomaError:
    message = f"the output {output.name} {why}"
    return KomaError("provenance_failed", message, field="outputs", value=output.name)
