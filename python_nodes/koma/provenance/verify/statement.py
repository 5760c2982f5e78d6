"""What the signed statement of a file says, in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import c2pa
from cryptography import x509

from koma.provenance.signing import files
from koma.provenance.signing.chain import Chain
from koma.provenance.signing.files import Read

GENERATED = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic")
"""Ends of the digital source types that say that a model made it, or a part of it."""
MEANINGS: Mapping[str, str] = {
    "signingCredential.untrusted": "signed by somebody who is not trusted here",
    "signingCredential.expired": "the certificate has ended, and nobody vouches for the time of signing",
    "signingCredential.invalid": "the certificate is not for signing media",
    "claimSignature.mismatch": "the statement was changed after it was signed",
    "assertion.hashedURI.mismatch": "a part of the statement was changed after it was signed",
    "assertion.dataHash.mismatch": "the file was changed after it was signed, or the statement is of another",
    "assertion.bmffHash.mismatch": "the file was changed after it was signed, or the statement is of another",
}
_TAMPERED = ("mismatch", "missing", "malformed")
_LEFT_OUT = "of an MP4 the boxes ftyp and free are outside of what is signed"


def told(path: Path, media_type: str, chain: Chain | None) -> dict[str, Any]:
    """Return what the statement of a file says; ``present`` is False where it has none."""
    if media_type not in files.TYPES:
        return {"present": False, "note": f"statements of {media_type} are not read here"}
    try:
        with path.open("rb") as file:
            found = files.read(file, media_type, [] if chain is None else [chain.anchors])
    except LookupError:
        return {"present": False}
    except c2pa.C2paError as error:
        return {"present": False, "note": f"the file cannot be read for a statement: {error}"[:300]}
    return _present(found, media_type, chain)


def _present(found: Read, media_type: str, chain: Chain | None) -> dict[str, Any]:
    active = found.manifests[found.active]
    signature = active.get("signature_info", {})
    sources = sorted(_sources(found.manifests))
    trusted = found.state == "Trusted"
    answer: dict[str, Any] = {
        "present": True,
        "state": found.state,
        "tampered": any(code.endswith(_TAMPERED) for code in found.failures),
        "failures": [{"code": code, "meaning": MEANINGS.get(code, code)} for code in found.failures],
        "issuer": signature.get("issuer"),
        "trusted_by": "this server" if trusted else None,
        "made_here": trusted and chain is not None and _is_own(signature, chain),
        "generated": any(source.endswith(GENERATED) for source in sources),
        "source_types": sources,
        "signed_at": signature.get("time") or _when(active),
        "time_vouched_for": "time" in signature,
        "generator": next((item.get("name") for item in active.get("claim_generator_info", [])), None),
        "ingredients": [_ingredient(item, found.manifests) for item in active.get("ingredients", [])],
    }
    for item in active.get("assertions", []):
        if item["label"] in ("koma.job", "koma.invisible_mark"):
            answer[item["label"].removeprefix("koma.")] = item["data"]
    if media_type in ("video/mp4", "video/quicktime"):
        answer["note"] = _LEFT_OUT
    return answer


def _is_own(signature: Mapping[str, Any], chain: Chain) -> bool:
    """An authority of the server's own certifies nobody else; an operator's may."""
    own = x509.load_pem_x509_certificates(chain.certificates)[0].serial_number
    return chain.own or signature.get("cert_serial_number") == str(own)


def _actions(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        action
        for item in manifest.get("assertions", [])
        if item["label"].startswith("c2pa.actions")
        for action in item["data"].get("actions", [])
    ]


def _sources(manifests: Mapping[str, Any]) -> set[str]:
    """The source types of the file and of what it was made from."""
    kinds = {action.get("digitalSourceType") for each in manifests.values() for action in _actions(each)}
    return {kind for kind in kinds if kind}


def _when(manifest: Mapping[str, Any]) -> str | None:
    return next((action["when"] for action in _actions(manifest) if "when" in action), None)


def _ingredient(item: Mapping[str, Any], manifests: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: item.get(name) for name in ("title", "format", "relationship")}
    signed = manifests.get(item.get("active_manifest", ""), {}).get("signature_info", {})
    return {**told, "issuer": signed.get("issuer")}
