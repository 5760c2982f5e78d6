"""Weights of an exported checkpoint as the start of a run (`--start-from`)."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

NAMES = ("model.safetensors", "diffusion_pytorch_model.safetensors")
"""What transformers and diffusers call the weights of a folder."""


def load_weights(module: nn.Module, folder: Path) -> None:
    """Fill `module` with the weights that were exported to `folder`.

    Raises:
        FileNotFoundError: the folder holds no weights.
        ValueError: they belong to a module of other parts or sizes.
    """
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no weights to start from: {folder} has neither {' nor '.join(NAMES)}")
    stored = load_file(path)
    own = module.state_dict()
    # parameters of one tensor under several names are stored once
    found = {own[name].data_ptr() for name in stored if name in own}
    missing = [name for name, value in own.items() if name not in stored and value.data_ptr() not in found]
    other = [name for name in stored if name not in own or own[name].shape != stored[name].shape]
    if missing or other:
        example = (other or missing)[0]
        raise ValueError(f"{path} has weights of another model, see {example}: train from scratch")
    module.load_state_dict(stored, strict=False)
