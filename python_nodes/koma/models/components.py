"""Loads the parts of a checkpoint, refusing what is missing, broken or incomplete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from koma.errors import KomaError
from koma.models.torchvision_shim import make_torchvision_importable

make_torchvision_importable()

import diffusers  # noqa: E402
import transformers  # noqa: E402

for library in (diffusers, transformers):
    library.utils.logging.disable_progress_bar()
    library.utils.logging.set_verbosity_error()


def load_model(cls: Any, folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """Load a model with all of its weights (safetensors only, no pickle), for inference.

    On the device "meta" only the configuration is read: shapes without weights, to count and to check.

    Raises:
        KomaError: ``load_failed`` where a file is absent or unreadable, or where weights are missing: the
        libraries would fill those with random numbers and only warn.
    """
    if device.type == "meta":
        return _skeleton(cls, folder, dtype)
    kind = "torch_dtype" if issubclass(cls, diffusers.ModelMixin) else "dtype"
    try:
        model, info = cls.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **{kind: dtype}
        )
    except Exception as error:  # any of a dozen classes of two libraries; the message tells which file
        raise _failed(folder, str(error)) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise _failed(folder, f"{len(missing)} weights are missing, the first is {missing[0]}")
    return model.to(device).eval().requires_grad_(False)


def _skeleton(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    try:
        model = make_model(cls, folder, torch.device("meta"))
    except Exception as error:
        raise _failed(folder, str(error)) from error
    return model.to(dtype).eval()


def make_model(cls: Any, folder: Path, device: torch.device) -> Any:
    """Make a model of the configuration in ``folder``, with the weights that its class begins with."""
    with device:
        if issubclass(cls, diffusers.ModelMixin):
            return cls.from_config(cls.load_config(folder, local_files_only=True))
        return cls(cls.config_class.from_pretrained(folder, local_files_only=True))


def load_part(cls: Any, folder: Path) -> Any:
    """Load a tokenizer, scheduler or processor.

    Raises:
        KomaError: ``load_failed`` where it cannot be read.
    """
    try:
        return cls.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise _failed(folder, str(error)) from error


def _failed(folder: Path, why: str) -> KomaError:
    return KomaError("load_failed", f"cannot load {folder}: {why}", field="checkpoint", value=str(folder))
