"""The signed statement: who reads it with the exported root trusts it, and sees every change."""

from __future__ import annotations

import datetime
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image
from pydantic import BaseModel
from tests.provenance.pictures import picture

from koma.errors import KomaError
from koma.models.media import encode
from koma.provenance.settings import Settings
from koma.provenance.signing import chain, files, keys, statement
from koma.provenance.step import Provenance
from koma.runtime.pulse import Cancelled, Pulse, operation
from koma.runtime.runner import InputFile, Loaded, Output, Request

LOADED = Loaded("amused", "emoji", "ab" * 32, "cpu", "float32")


class _Params(BaseModel):
    prompt: str = "a cup of coffee"
    seed: int = 7


def _request(folder: Path, inputs: dict[str, InputFile] | None = None) -> Request:
    return Request("job", "image.generate", _Params(), inputs or {}, folder)


def _signed(provenance: Provenance, request: Request, kind: str = "image/png") -> Output:
    with provenance.session(request) as session:
        if kind == "video/mp4":
            path = encode.write_mp4(request.folder(), np.stack([picture(n, 64, 64) for n in range(5)]), 8)
        else:
            path = encode.write_png(request.folder(), picture(1, 64, 64))
        if kind in ("image/jpeg", "image/webp"):
            image = Image.open(path)
            image.save(path, kind.removeprefix("image/").upper(), quality=95)
        return session.sealed([Output("made", kind, path=path)])[0]


def _read(output: Output, provenance: Provenance, *, trusted: bool = True) -> files.Read:
    assert output.path is not None
    assert provenance.signer is not None
    with output.path.open("rb") as file:
        return files.read(file, output.media_type, [provenance.signer.chain.anchors] if trusted else [])


@pytest.fixture(scope="module")
def provenance(tmp_path_factory: pytest.TempPathFactory) -> Provenance:
    return Provenance.open(Settings(tmp_path_factory.mktemp("keys")), LOADED, "1.2.3")


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "image/webp", "video/mp4"])
def test_a_file_says_that_a_model_made_it_and_which(
    provenance: Provenance, kind: str, tmp_path: Path
) -> None:
    output = _signed(provenance, _request(tmp_path), kind)
    found = _read(output, provenance)
    assert (found.state, found.failures) == ("Trusted", ())
    told = found.manifests[found.active]
    said = {item["label"]: item["data"] for item in told["assertions"]}
    action = said["c2pa.actions.v2"]["actions"][0]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == statement.TRAINED
    assert action["softwareAgent"] == {"name": "amused", "version": "emoji"}
    assert said["koma.job"]["checkpoint_sha256"] == "ab" * 32
    assert said["koma.invisible_mark"]["id"] == output.meta["marks"]["id"]
    assert "coffee" not in str(found.manifests)
    assert _read(output, provenance, trusted=False).failures == ("signingCredential.untrusted",)


def test_prompts_and_seed_are_told_where_the_operator_wants_it(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "keys", prompts=True)
    made = _signed(Provenance.open(settings, LOADED, "1"), _request(tmp_path / "out"))
    assert made.path is not None
    assert b"a cup of coffee" in made.path.read_bytes()


def test_an_input_is_carried_on_with_its_own_statement(provenance: Provenance, tmp_path: Path) -> None:
    first = _signed(provenance, _request(tmp_path))
    assert first.path is not None
    given = {"image": InputFile(first.path, "cd" * 32, "image/png", 1)}
    found = _read(_signed(provenance, _request(tmp_path, given), "video/mp4"), provenance)
    assert found.state == "Trusted"
    assert len(found.manifests) == 2
    told = found.manifests[found.active]
    assert told["ingredients"][0]["relationship"] == "parentOf"
    actions = next(item for item in told["assertions"] if item["label"] == "c2pa.actions.v2")["data"][
        "actions"
    ]
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]


def test_a_damaged_input_costs_no_result(provenance: Provenance, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff" + b"x" * 100)
    given = {"image": InputFile(damaged, "cd" * 32, "image/jpeg", 103)}
    found = _read(_signed(provenance, _request(tmp_path, given)), provenance)
    assert found.state == "Trusted"
    assert "cd" * 32 in str(found.manifests)


@pytest.mark.parametrize("kind", ["image/png", "video/mp4"])
def test_a_changed_pixel_is_seen(provenance: Provenance, kind: str, tmp_path: Path) -> None:
    output = _signed(provenance, _request(tmp_path), kind)
    assert output.path is not None
    data = bytearray(output.path.read_bytes())
    data[-60] ^= 1
    output.path.write_bytes(data)
    assert _read(output, provenance).state == "Invalid"


def test_a_changed_word_of_the_statement_is_seen(provenance: Provenance, tmp_path: Path) -> None:
    output = _signed(provenance, _request(tmp_path), "image/jpeg")
    assert output.path is not None
    data = output.path.read_bytes()
    assert b"trainedAlgorithmicMedia" in data
    output.path.write_bytes(data.replace(b"trainedAlgorithmicMedia", b"digitalCaptureXXXXXXXXX"))
    assert "assertion.hashedURI.mismatch" in _read(output, provenance).failures


def test_the_statement_of_another_picture_does_not_fit(provenance: Provenance, tmp_path: Path) -> None:
    signed = _signed(provenance, _request(tmp_path))
    assert signed.path is not None
    data = signed.path.read_bytes()
    start = data.index(b"caBX") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    plain = encode.write_png(tmp_path, picture(2, 64, 64))
    other = plain.read_bytes()
    plain.write_bytes(other[:33] + chunk + other[33:])
    assert "assertion.dataHash.mismatch" in _read(Output("x", "image/png", path=plain), provenance).failures


def test_a_plain_file_has_no_statement(tmp_path: Path) -> None:
    path = encode.write_png(tmp_path, picture(2, 64, 64))
    with path.open("rb") as file, pytest.raises(LookupError):
        files.read(file, "image/png", [])


def test_a_cancel_within_signing_leaves_the_file_and_nothing_else(
    provenance: Provenance, tmp_path: Path
) -> None:
    path = encode.write_mp4(tmp_path, np.stack([picture(n, 64, 64) for n in range(5)]), 8)
    before, said = (
        path.read_bytes(),
        statement.of_output("video", "video/mp4", _request(tmp_path), LOADED, "1", mark=None, prompts=False),
    )
    assert provenance.signer is not None
    for at in (1, 2, 5, 20):
        beats = iter(range(1, 1000))
        with pytest.raises(Cancelled), operation(Pulse(lambda at=at, beats=beats: next(beats) >= at)):  # type: ignore[misc]
            provenance.signer.sign_file(path, "video/mp4", said)
        assert next(beats) == at + 1, "it went on after the cancel"
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == [path.name]


# Keys.


def test_keys_are_made_once_for_their_owner_only_and_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys.prepare(folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    keys.prepare(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in (keys.ROOT_KEY, keys.SIGNER_KEY, keys.MARK_KEY):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_a_new_signing_key_is_of_the_same_authority(tmp_path: Path) -> None:
    keys.prepare(tmp_path)
    root = (tmp_path / keys.ROOT).read_bytes()
    (tmp_path / keys.SIGNER).unlink()
    keys.prepare(tmp_path)
    assert (tmp_path / keys.ROOT).read_bytes() == root
    Provenance.open(Settings(tmp_path), LOADED, "1")


def _own(folder: Path, prepare: bool = True, **changed: Any) -> Settings:
    """Settings with an operator's own chain: here one that another server made for itself."""
    if prepare:
        keys.prepare(folder / "theirs")
    theirs = {"chain": folder / "theirs" / keys.SIGNER, "key": folder / "theirs" / keys.SIGNER_KEY}
    return Settings(folder / "ours", **{**theirs, **changed})


def test_an_own_chain_signs(tmp_path: Path) -> None:
    made = Provenance.open(_own(tmp_path), LOADED, "1")
    found = _read(_signed(made, _request(tmp_path / "out")), made)
    assert found.state in ("Trusted", "Valid")


def _other_key(path: Path) -> Path:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return path


def test_what_does_not_fit_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    nothing = tmp_path / "absent.pem"
    text = tmp_path / "text.pem"
    text.write_text("no key")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"key": _other_key(tmp_path / "other.pem")}, "do not fit the key"),
        ({"key": nothing}, "cannot be read"),
        ({"key": text}, "no private key"),
        ({"key": None}, "needs both"),
    ]
    for changed, sentence in wrong:
        with pytest.raises(KomaError, match=sentence) as caught:
            Provenance.open(_own(tmp_path, **changed), LOADED, "1")
        assert caught.value.code == "provenance_failed"


def test_a_certificate_that_ends_soon_is_told_at_every_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys.prepare(tmp_path / "theirs", datetime.timedelta(days=30))
    Provenance.open(_own(tmp_path, prepare=False), LOADED, "1")
    assert "ends on" in caplog.text
    caplog.clear()
    Provenance.open(Settings(tmp_path / "ours"), LOADED, "1")
    assert caplog.text == ""


def test_an_ended_certificate_stops_the_start(tmp_path: Path) -> None:
    keys.prepare(tmp_path / "theirs", datetime.timedelta(seconds=-60))
    with pytest.raises(KomaError, match="cannot be signed") as caught:
        Provenance.open(_own(tmp_path, prepare=False), LOADED, "1")
    assert caught.value.code == "provenance_failed"


def test_an_own_root_is_what_readers_trust(tmp_path: Path) -> None:
    keys.prepare(tmp_path)
    assert chain.load(Settings(tmp_path)).anchors == (tmp_path / keys.ROOT).read_text()


def test_a_full_disk_is_told_as_such_and_leaves_the_file(provenance: Provenance, tmp_path: Path) -> None:
    path = encode.write_png(tmp_path, picture(1, 256, 256))
    before = path.read_bytes()
    said = statement.of_output(
        "image", "image/png", _request(tmp_path), LOADED, "1", mark=None, prompts=False
    )
    assert provenance.signer is not None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            provenance.signer.sign_file(path, "image/png", said)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
