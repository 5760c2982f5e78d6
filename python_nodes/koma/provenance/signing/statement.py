"""What the signed statement says of one output."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from koma.runtime.runner import InputFile, Loaded, Request

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""The word of the IPTC for media that a trained model made."""
MARK_LABEL, JOB_LABEL = "koma.invisible_mark", "koma.job"
"""Assertions of Koma's own: the invisible mark is not on C2PA's list of soft bindings."""
_INGREDIENT_TYPES = ("image/png", "image/jpeg", "image/webp", "image/avif", "image/gif", "video/mp4")
"""Types of inputs whose own statements can be read and carried on."""


@dataclass(frozen=True)
class Statement:
    """The manifest, and the inputs whose manifests are carried on by their labels."""

    manifest: dict[str, Any]
    ingredients: Mapping[str, tuple[InputFile, dict[str, Any]]] = field(default_factory=dict)


def of_output(
    name: str,
    media_type: str,
    request: Request,
    loaded: Loaded,
    version: str,
    *,
    mark: Mapping[str, Any] | None,
    prompts: bool,
    inputs: bool = True,
) -> Statement:
    """Return what is said of the output ``name``.

    Args:
        name: of the output.
        media_type: of its file.
        request: the job.
        loaded: model and checkpoint that made it.
        version: of Koma.
        mark: what its invisible mark says; None where it has none.
        prompts: whether the prompts and the seed are told.
        inputs: whether the statements of inputs are carried on; False where one of them is damaged.
    """
    ingredients = _ingredients(request) if inputs else {}
    job = _job(request, loaded, prompts)
    assertions = [
        {"label": "c2pa.actions.v2", "data": {"actions": _actions(ingredients, loaded)}},
        {"label": JOB_LABEL, "data": job},
    ]
    if mark is not None:
        assertions.append({"label": MARK_LABEL, "data": dict(mark)})
    manifest = {
        "claim_generator_info": [{"name": "Koma", "version": version}],
        "title": name,
        "format": media_type,
        "assertions": assertions,
    }
    return Statement(manifest, ingredients)


def _actions(
    ingredients: Mapping[str, tuple[InputFile, dict[str, Any]]], loaded: Loaded
) -> list[dict[str, Any]]:
    """A picture that was given is opened and edited; without one the output is created."""
    made = {
        "digitalSourceType": TRAINED,
        "softwareAgent": {"name": loaded.family, "version": loaded.checkpoint},
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    parent = next(
        (label for label, (_, told) in ingredients.items() if told["relationship"] == "parentOf"), None
    )
    if parent is None:
        return [{"action": "c2pa.created", **made}]
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [parent]}}
    return [opened, {"action": "c2pa.edited", **made}]


def _job(request: Request, loaded: Loaded, prompts: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "task": request.task,
        "family": loaded.family,
        "checkpoint": loaded.checkpoint,
        "checkpoint_sha256": loaded.checkpoint_digest,
        "inputs": {
            name: {"sha256": file.sha256, "media_type": file.media_type}
            for name, file in request.inputs.items()
        },
    }
    if prompts:
        params = request.params.model_dump()
        told["params"] = {
            name: value for name, value in params.items() if isinstance(value, str | int | float)
        }
    return told


def _ingredients(request: Request) -> dict[str, tuple[InputFile, dict[str, Any]]]:
    found: dict[str, tuple[InputFile, dict[str, Any]]] = {}
    for name, file in request.inputs.items():
        if file.media_type in _INGREDIENT_TYPES:
            relationship = "inputTo" if found else "parentOf"
            found[name] = (file, {"title": name, "label": name, "relationship": relationship})
    return found
