"""The server's own keys: made at the first start, kept in one folder, for its owner only.

    root.pem       certificate of the server's own authority: give it to those who are to trust the server
    root.key       its key: signs ``signer.pem`` only
    signer.pem     certificate of the key that signs outputs
    signer.key     that key
    mark.key       the key of the invisible mark

Delete ``signer.pem`` and ``signer.key`` to have a new pair made at the next start, of the same authority.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT, ROOT_KEY, SIGNER, SIGNER_KEY, MARK_KEY = "root.pem", "root.key", "signer.pem", "signer.key", "mark.key"
ROOT_YEARS, SIGNER_YEARS = 30, 10
"""Without a time-stamp a signature counts only as long as its certificate, so both live long."""
YEAR = datetime.timedelta(days=365)
RENEWAL = YEAR
"""A certificate of the server's own that ends sooner than that is replaced at a start."""
MARK_KEY_BYTES = 32
_CURVE = ec.SECP256R1()
_DAY = datetime.timedelta(days=1)


def prepare(folder: Path, signer_life: datetime.timedelta = SIGNER_YEARS * YEAR) -> None:
    """Make what is missing in ``folder``. Several processes may do so at the same time.

    ``signer_life`` is that of a new signing certificate.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(folder):
        if not _both(folder, ROOT, ROOT_KEY):
            _make_root(folder)
        if not _both(folder, SIGNER, SIGNER_KEY) or _ends_soon(folder / SIGNER):
            _make_signer(folder, signer_life)
        if not (folder / MARK_KEY).is_file():
            _write(folder / MARK_KEY, secrets.token_bytes(MARK_KEY_BYTES))


def expires(chain: bytes) -> datetime.datetime:
    """Return when the first certificate of ``chain`` ends."""
    return x509.load_pem_x509_certificates(chain)[0].not_valid_after_utc


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _both(folder: Path, *names: str) -> bool:
    return all((folder / name).is_file() for name in names)


def _ends_soon(path: Path) -> bool:
    return expires(path.read_bytes()) - datetime.datetime.now(datetime.UTC) < RENEWAL


def _make_root(folder: Path) -> None:
    key = ec.generate_private_key(_CURVE)
    name = _name("Koma server authority")
    builder = _certificate(name, name, key.public_key(), key.public_key(), ROOT_YEARS * YEAR)
    builder = builder.add_extension(x509.BasicConstraints(True, 0), True).add_extension(_usage(ca=True), True)
    _write(folder / ROOT_KEY, _key_pem(key))
    _write(folder / ROOT, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), 0o644)


def _make_signer(folder: Path, life: datetime.timedelta) -> None:
    root = x509.load_pem_x509_certificate((folder / ROOT).read_bytes())
    root_key = serialization.load_pem_private_key((folder / ROOT_KEY).read_bytes(), None)
    if not isinstance(root_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{folder / ROOT_KEY} is not the key of {ROOT}")
    key = ec.generate_private_key(_CURVE)
    name = _name("Koma server outputs")
    builder = _certificate(name, root.subject, key.public_key(), root_key.public_key(), life)
    builder = builder.add_extension(x509.BasicConstraints(False, None), True)
    builder = builder.add_extension(_usage(ca=False), True)
    # The purpose that C2PA asks for where a certificate has none of its own.
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    certificate = builder.add_extension(purpose, False).sign(root_key, hashes.SHA256())
    _write(folder / SIGNER_KEY, _key_pem(key))
    _write(folder / SIGNER, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # clocks of readers differ
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .add_extension(authority, False)
    )


def _name(common: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Koma server, certified by itself")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain)


def _write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a whole file or none."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
