"""What the exported folders of all families have in common: `koma.json` and the run that a card tells of."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from koma.models.manifest import FILE

PIPELINE_NAMES = {
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "temperature": "temperature",
    "width": "width",
    "height": "height",
    "frames": "num_frames",
    "fps": "frame_rate",
}
"""Parameters of the model nodes and what the stock pipelines of diffusers call them."""


def write_manifest(folder: Path, size: int, defaults: Mapping[str, Any]) -> None:
    """Write `koma.json`: the default parameters of a model node and what to tell its users."""
    notice = f"a small model, trained on Emoji World only, {size} × {size} px"
    manifest = {"notice": notice, "defaults": dict(defaults)}
    (folder / FILE).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def forget_origins(folder: Path) -> None:
    """Take out of the configurations of a pipeline's parts from where they were loaded on this machine."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def pipeline_arguments(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of a model node as arguments of the stock pipelines.

    aMUSEd's pipeline takes the temperature of the first and of the last step; a node's falls to zero.
    """
    call = {PIPELINE_NAMES[name]: value for name, value in defaults.items()}
    if "temperature" in call:
        call["temperature"] = (call["temperature"], 0.0)
    return call


def command_line() -> str:
    """The command that is running, as it would be typed."""
    return shlex.join(["python", "-m", "koma.training.cli", *sys.argv[1:]])


def device_name() -> str:
    """The accelerator, or "CPU"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
