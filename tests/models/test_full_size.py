"""The configurations of the real checkpoints go through the code that loads the small ones, without
weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from koma.models.amused import parts as amused
from koma.models.amused.params import image_params
from koma.models.components import load_model
from koma.models.device import Placement
from koma.models.ltx_video import parts as ltx_video
from koma.models.ltx_video.params import video_params
from koma.models.manifest import Manifest
from koma.models.smolvlm2 import parts as smolvlm2
from koma.models.smolvlm2.params import understand_params

CONFIGS = Path(__file__).parent / "configs"
COUNTS: dict[str, int] = json.loads((CONFIGS / "param_counts.json").read_text())
META = Placement(torch.device("meta"), torch.bfloat16, "shapes only")

Checkpoint = Callable[[str], Path]


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _schema(params: Any) -> dict[str, Any]:
    properties: dict[str, Any] = params.model_json_schema()["properties"]
    return properties


def _copy(pairs: dict[str, str], target: Path) -> Path:
    """Lay configurations out as a checkpoint folder: place in it -> file of ``configs``."""
    for place, name in pairs.items():
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CONFIGS / name, target / place)
    return target


def test_amused_256_has_the_parameters_and_sizes_of_the_real_one(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = shutil.copytree(CONFIGS / "amused-256", tmp_path / "amused")
    shutil.copytree(checkpoint("amused") / "tokenizer", folder / "tokenizer")
    loaded = amused.load(folder, META)
    assert _count(loaded.transformer) == COUNTS["amused-256 UVit2D"]
    assert _count(loaded.vqvae) == COUNTS["amused VQModel"]
    assert _count(loaded.text_encoder) == COUNTS["amused CLIP text (12 layers)"]
    width = _schema(image_params(loaded.native_side, loaded.multiple, Manifest()))["width"]
    assert (width["default"], width["multipleOf"], width["maximum"]) == (256, 16, 512)


def test_amused_512_halves_its_grid_and_so_wants_even_ones(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = shutil.copytree(CONFIGS / "amused-256", tmp_path / "amused")
    shutil.copy(CONFIGS / "amused-512/transformer/config.json", folder / "transformer/config.json")
    shutil.copytree(checkpoint("amused") / "tokenizer", folder / "tokenizer")
    loaded = amused.load(folder, META)
    assert _count(loaded.transformer) == COUNTS["amused-512 UVit2D"]
    assert (loaded.native_side, loaded.multiple) == (512, 32)


@pytest.mark.parametrize(
    ("size", "version"), [("2b", "0.9.0"), ("2b", "0.9.1"), ("2b", "0.9.5"), ("13b", "0.9.5")]
)
def test_ltx_video_has_the_parameters_and_sizes_of_the_real_one(
    checkpoint: Checkpoint, tmp_path: Path, size: str, version: str
) -> None:
    places = {
        "transformer/config.json": f"ltx/transformer_{size}.json",
        "vae/config.json": f"ltx/vae_{version}.json",
        "text_encoder/config.json": "ltx/text_encoder.json",
        "scheduler/scheduler_config.json": "ltx/scheduler_0.9.json",
    }
    folder = _copy(places, tmp_path / "ltx")
    shutil.copytree(checkpoint("ltx_video") / "tokenizer", folder / "tokenizer")
    loaded = ltx_video.load(folder, META, {})
    assert _count(loaded.transformer) == COUNTS[f"ltx {size.upper()} transformer"]
    assert _count(loaded.vae) == COUNTS[f"ltx vae {version}"]
    assert _count(loaded.text_encoder) == COUNTS["t5-v1_1-xxl encoder"]
    assert (loaded.spatial, loaded.temporal, loaded.multiple) == (32, 8, 32)
    schema = _schema(video_params(loaded.multiple, loaded.temporal, Manifest()))
    assert schema["frames"]["enum"] == list(range(9, 258, 8))
    assert [schema[name]["default"] for name in ("width", "height", "frames", "fps")] == [704, 512, 161, 25]


def test_smolvlm2_256m_has_the_parameters_and_sampling_of_the_real_one(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = shutil.copytree(CONFIGS / "smolvlm2-256m", tmp_path / "smolvlm2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint("smolvlm2") / name, folder / name)
    loaded = smolvlm2.load(folder, META)
    assert _count(loaded.model) == COUNTS["smolvlm2-256m (untied)"]
    assert (loaded.context, loaded.max_frames, loaded.fps, loaded.ends) == (8192, 64, 1.0, frozenset({49279}))
    assert loaded.processor.image_seq_len == 64
    assert _schema(understand_params(64, 1.0, loaded.context, Manifest()))["max_frames"]["maximum"] == 64


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    from diffusers import VQModel

    from koma.errors import KomaError

    with pytest.raises(KomaError) as refused:
        load_model(VQModel, tmp_path / "nothing", torch.float32, torch.device("meta"))
    assert refused.value.code == "load_failed"
