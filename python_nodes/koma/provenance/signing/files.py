"""Writes a statement into a file, last of all, and reads it back."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import c2pa
from PIL import Image

from koma.errors import KomaError
from koma.provenance.signing.chain import Chain
from koma.provenance.signing.statement import TRAINED, Statement
from koma.runtime.pulse import Cancelled, beat

TYPES = frozenset(
    {
        "image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "image/tiff",
        "video/mp4", "video/quicktime", "audio/wav", "audio/mpeg", "audio/mp4", "audio/flac",
    }
)  # fmt: skip
"""Media types of files that can be signed."""
_OFFLINE = {
    "verify": {
        "verify_after_sign": False,
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
    "builder": {"thumbnail": {"enabled": False}},
}
_UNTRUSTED = "signingCredential.untrusted"


class IngredientError(Exception):
    """An input is damaged so that its own statement cannot be carried on."""


@dataclass(frozen=True)
class Read:
    """What a reader says of the statement in a file."""

    state: str
    """``Trusted``, ``Valid`` (signed, by somebody who is not trusted here) or ``Invalid``."""
    failures: tuple[str, ...]
    """Codes of C2PA, of the statement itself and of those of its ingredients."""
    manifests: dict[str, Any]
    active: str
    """Label of the statement of the file itself, a key of ``manifests``."""


class Signer:
    """Signs files with one key; may be called from several threads."""

    def __init__(self, chain: Chain, timestamps: str | None) -> None:
        self.chain = chain
        url = timestamps.encode() if timestamps else None
        algorithm = chain.algorithm.encode()
        try:
            info = c2pa.C2paSignerInfo(algorithm, chain.certificates, chain.key, url)
            self._signer = c2pa.Signer.from_info(info)
        except c2pa.C2paError as error:
            raise _failed(error) from error

    def check(self) -> None:
        """Sign a picture and read it back; raises KomaError with a sentence where that fails."""
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "PNG")
        manifest = _trial()
        signed = io.BytesIO()
        self._sign(Statement(manifest), "image/png", io.BytesIO(picture.getvalue()), signed, ())
        found = read(io.BytesIO(signed.getvalue()), "image/png", [self.chain.anchors])
        wrong = [code for code in found.failures if code != _UNTRUSTED or self.chain.own]
        if wrong:
            raise _failed(f"the certificates do not fit the key, or are not for signing media: {wrong}")

    def sign_file(self, path: Path, media_type: str, statement: Statement) -> None:
        """Put the statement into the file at ``path``. The file is replaced once it is whole; a cancel or an
        error leaves it as it was.

        Raises:
            IngredientError: where the statement of an input cannot be read.
            KomaError: ``provenance_failed`` where the file cannot be signed.
        """
        beside, watch = path.with_name(f".{uuid.uuid4().hex}.signed"), _Watch()
        try:
            with ExitStack() as stack:
                source = stack.enter_context(_Beating(path, "rb", watch))
                target = stack.enter_context(_Beating(beside, "w+b", watch))
                inputs = [
                    (told, file.media_type, stack.enter_context(_Beating(file.path, "rb", watch)))
                    for file, told in statement.ingredients.values()
                ]
                self._sign(statement, media_type, source, target, inputs)
            beside.replace(path)
        except BaseException as error:
            beside.unlink(missing_ok=True)
            if watch.broken is not None:
                raise watch.broken from error
            raise

    def _sign(
        self,
        statement: Statement,
        media_type: str,
        source: BinaryIO,
        target: BinaryIO,
        inputs: Iterable[tuple[dict[str, Any], str, BinaryIO]],
    ) -> None:
        beat()
        with (
            _context([self.chain.anchors]) as context,
            c2pa.Builder(statement.manifest, context) as builder,
        ):
            for told, kind, stream in inputs:
                try:
                    builder.add_ingredient(told, kind, stream)
                except c2pa.C2paError as error:
                    raise IngredientError(str(error)) from error
            try:
                builder.sign(self._signer, media_type, source, target)
            except c2pa.C2paError as error:
                raise _failed(error) from error


def read(stream: BinaryIO, media_type: str, anchors: Iterable[str]) -> Read:
    """Read the statement of a file.

    Raises:
        LookupError: where the file has none.
        c2pa.C2paError: where the file is not what ``media_type`` says.
    """
    try:
        with _context(anchors) as context, c2pa.Reader(media_type, stream, context=context) as reader:
            told = json.loads(reader.json())
            results = reader.get_validation_results() or {}
            state = str(reader.get_validation_state())
    except c2pa.C2paError.ManifestNotFound as error:
        raise LookupError("the file has no signed statement") from error
    active = results.get("activeManifest", {})
    codes = [item["code"] for item in active.get("failure", [])]
    for delta in results.get("ingredientDeltas", []):
        codes += [item["code"] for item in delta.get("validationDeltas", {}).get("failure", [])]
    return Read(state, tuple(dict.fromkeys(codes)), told["manifests"], told["active_manifest"])


def _context(anchors: Iterable[str]) -> c2pa.Context:
    trusted = "\n".join(anchors)
    trust = {"trust": {"user_anchors": trusted}} if trusted else {}
    return c2pa.Context(c2pa.Settings.from_dict({**_OFFLINE, **trust}))


def _trial() -> dict[str, Any]:
    action = {"action": "c2pa.created", "digitalSourceType": TRAINED}
    return {
        "claim_generator_info": [{"name": "Koma"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def _failed(why: object) -> KomaError:
    return KomaError("provenance_failed", f"outputs cannot be signed: {why}", field="provenance")


class _Watch:
    """Keeps a cancel, or an error of the disk, that came while the library read or wrote.

    The library calls from outside of Python, where ``Cancelled`` would be lost and an error would not tell
    its reason. So it is told of an error of the file, and what was kept is raised afterwards.
    """

    def __init__(self) -> None:
        self.broken: BaseException | None = None

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Beat, and read or write one piece inside; nothing more is done once something was kept."""
        if self.broken is None:
            try:
                beat()
                yield
                return
            except (Cancelled, OSError) as error:
                self.broken = error
        raise OSError("signing has ended") from self.broken


class _Beating(io.FileIO):
    """A file that beats with every piece that is read or written."""

    def __init__(self, path: Path, mode: str, watch: _Watch) -> None:
        super().__init__(path, mode)
        self._watch = watch

    def readinto(self, buffer: Any) -> int | None:
        """Read a piece."""
        with self._watch.piece():
            return super().readinto(buffer)

    def write(self, data: Any) -> int:
        """Write a piece."""
        with self._watch.piece():
            return super().write(data)
