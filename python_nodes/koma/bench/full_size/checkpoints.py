"""Checkpoints of the released sizes with random weights: none of the real ones can be downloaded everywhere.

The configurations are the published ones (``tests/models/configs``); tokenizers are those of the ``emoji``
checkpoints, whose ids all lie within the larger vocabularies.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from koma.bench.setting import FAMILIES
from koma.models import checkpoints, registry
from koma.models.components import make_model
from koma.models.device import DTYPES

CLIP_TOKENS, T5_TOKENS = 77, 128
"""Tokens that the released pipelines read of a prompt."""
_SEED = 20240229


def build(configs: Path, target: Path, device: str, dtype: str) -> dict[str, str]:
    """Write a checkpoint of each family below ``target``; return family -> folder.

    Args:
        configs: a folder laid out like ``tests/models/configs``.
        device: where the random weights are drawn; a GPU is much quicker.
        dtype: a key of :data:`koma.models.device.DTYPES`, of the weights on the disk.
    """
    target.mkdir(parents=True, exist_ok=True)
    write = _Writer(torch.device(device), DTYPES[dtype])
    _amused(configs / "amused-256", target / "amused", write)
    _ltx_video(configs / "ltx", target / "ltx_video", write)
    _smolvlm2(configs / "smolvlm2-256m", target / "smolvlm2", write)
    return {family: str(target / family) for family in FAMILIES}


class _Writer:
    """Makes a model of a configuration, with random weights, and saves it in its place."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype

    def __call__(self, cls: Any, folder: Path) -> None:
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(_SEED)
            model = make_model(cls, folder, self._device)
        model.to(self._dtype).save_pretrained(folder)


def _amused(configs: Path, folder: Path, write: _Writer) -> None:
    from diffusers import UVit2DModel, VQModel
    from transformers import CLIPTextModelWithProjection

    emoji = checkpoints.resolve("emoji", registry.find("amused"))
    shutil.copytree(configs, folder, dirs_exist_ok=True)
    shutil.copy(emoji / "model_index.json", folder)
    shutil.copytree(emoji / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    _change(folder / "tokenizer/tokenizer_config.json", {"model_max_length": CLIP_TOKENS})
    _change(folder / "text_encoder/config.json", _ends(emoji / "text_encoder/config.json"))
    write(UVit2DModel, folder / "transformer")
    write(VQModel, folder / "vqvae")
    write(CLIPTextModelWithProjection, folder / "text_encoder")


def _ltx_video(configs: Path, folder: Path, write: _Writer) -> None:
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
    from transformers import T5EncoderModel

    emoji = checkpoints.resolve("emoji", registry.find("ltx_video"))
    for name, place in {
        "transformer_2b.json": "transformer/config.json",
        "vae_0.9.5.json": "vae/config.json",
        "text_encoder.json": "text_encoder/config.json",
        "scheduler_0.9.json": "scheduler/scheduler_config.json",
    }.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(configs / name, folder / place)
    shutil.copy(emoji / "model_index.json", folder)
    shutil.copytree(emoji / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    _change(folder / "tokenizer/tokenizer_config.json", {"model_max_length": T5_TOKENS})
    write(LTXVideoTransformer3DModel, folder / "transformer")
    write(AutoencoderKLLTXVideo, folder / "vae")
    write(T5EncoderModel, folder / "text_encoder")


def _smolvlm2(configs: Path, folder: Path, write: _Writer) -> None:
    from transformers import SmolVLMForConditionalGeneration

    emoji = checkpoints.resolve("emoji", registry.find("smolvlm2"))
    shutil.copytree(configs, folder, dirs_exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(emoji / name, folder)
    image = _read(emoji / "config.json")["image_token_id"]
    _change(folder / "config.json", {"image_token_id": image})
    write(SmolVLMForConditionalGeneration, folder)
    # Saving a model writes its own.
    shutil.copy(emoji / "generation_config.json", folder)


def _ends(config: Path) -> dict[str, Any]:
    """The marks of the tokenizer: the text encoder looks for them."""
    read = _read(config)
    return {name: read[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _change(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps({**_read(path), **changes}, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text())
    return read
