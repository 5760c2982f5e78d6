"""What signs outputs: the server's own key or an operator's, and whom readers have to trust for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from koma.errors import KomaError
from koma.provenance.settings import Settings
from koma.provenance.signing import keys

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Chain:
    """A signing key with its certificates."""

    algorithm: str
    certificates: bytes
    """PEM, the certificate of the key first."""
    key: bytes
    """PEM, PKCS#8."""
    anchors: str
    """PEM of the certificate that readers have to trust."""
    own: bool
    """Whether the server certified itself."""


def load(settings: Settings) -> Chain:
    """Read the keys; raises KomaError ``provenance_failed`` with a sentence where they cannot be used."""
    if (settings.chain is None) != (settings.key is None):
        raise _refused(
            "an own chain needs both its certificates and its key (KOMA_SIGN_CHAIN, KOMA_SIGN_KEY)"
        )
    if settings.chain is not None and settings.key is not None:
        chain, key = _read(settings.chain), _read(settings.key)
        algorithm = _algorithm(key, settings.key)
        last = x509.load_pem_x509_certificates(chain)[-1]
        anchor = last.public_bytes(serialization.Encoding.PEM).decode()
        return Chain(algorithm, chain, _pkcs8(key), anchor, own=False)
    folder = settings.folder
    certificates, key = _read(folder / keys.SIGNER), _read(folder / keys.SIGNER_KEY)
    anchor = _read(folder / keys.ROOT).decode()
    return Chain(_algorithm(key, folder / keys.SIGNER_KEY), certificates, _pkcs8(key), anchor, own=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(f"{path} cannot be read: {error.strerror}") from error


def _algorithm(key: bytes, path: Path) -> str:
    loaded = _loaded(key, path)
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(loaded, ec.EllipticCurvePrivateKey) and loaded.curve.name in _CURVES:
        return _CURVES[loaded.curve.name]
    raise _refused(f"{path} is no key of the kinds Ed25519, P-256, P-384 and P-521")


def _loaded(key: bytes, path: Path) -> object:
    try:
        return serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise _refused(f"{path} is no private key in PEM without a password") from error


def _pkcs8(key: bytes) -> bytes:
    loaded = serialization.load_pem_private_key(key, None)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return loaded.private_bytes(serialization.Encoding.PEM, form, plain)


def _refused(why: str) -> KomaError:
    return KomaError("provenance_failed", f"outputs cannot be signed: {why}", field="provenance")
