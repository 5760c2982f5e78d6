"""The published configurations, cut down to a layer or two, as checkpoints of a measurement."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from koma.bench import setting as settings
from koma.bench.full_size import checkpoints
from koma.bench.setting import FAMILIES, Setting
from koma.bench.stock import pipelines
from koma.bench.workload import Workload
from koma.models import registry

CONFIGS = Path(__file__).parents[1] / "models" / "configs"
SMALL: Mapping[str, Mapping[str, Any]] = {
    "amused-256/transformer/config.json": {"num_hidden_layers": 1, "num_res_blocks": 1},
    "amused-256/vqvae/config.json": {"layers_per_block": 1},
    "amused-256/text_encoder/config.json": {"num_hidden_layers": 1},
    "ltx/transformer_2b.json": {"num_layers": 1, "caption_channels": 64},
    "ltx/text_encoder.json": {"num_layers": 1, "d_model": 64, "d_ff": 64, "num_heads": 2, "d_kv": 32},
}
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "smolvlm2": {},
    "amused": {"width": 32, "height": 32},
    "ltx_video": {"width": 32, "height": 32, "frames": 9, "fps": 8},
}


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """All three, on the processor."""
    configs = shutil.copytree(CONFIGS, tmp_path_factory.mktemp("full size") / "configs")
    for name, changes in SMALL.items():
        _change(configs / name, changes)
    for part in ("text_config", "vision_config"):
        stored = json.loads((configs / "smolvlm2-256m/config.json").read_text())
        _change(configs / "smolvlm2-256m/config.json", {part: {**stored[part], "num_hidden_layers": 1}})
    built = checkpoints.build(configs, configs.parent / "built", "cpu", "bfloat16")
    return Setting(built, PARAMS, "cpu", "bfloat16")


def _change(path: Path, changes: Mapping[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("family", FAMILIES)
def test_koma_and_the_stock_pipelines_load_and_run_what_was_built(
    setting: Setting, family: str, tmp_path: Path
) -> None:
    [request] = Workload(random.Random(1), tmp_path, setting).requests(family, 1)
    pipelines.load(family, tmp_path, setting).run([request])
    runner = registry.load(family, setting.checkpoints[family], setting.device, setting.dtype, 8, {})
    assert (runner.loaded.device, runner.loaded.dtype) == ("cpu", "bfloat16")
    runner.tasks[request.task].params.model_validate(request.params)


def test_a_setting_reaches_another_process_and_a_server_as_it_is(setting: Setting) -> None:
    assert settings.from_json(setting.to_json()) == setting
    text = Setting({"toy": '/tmp/a "b" #{c}'}, {}, count=2, threads=1).models_file()
    assert 'checkpoint: "/tmp/a \\"b\\" \\#{c}"' in text
    assert "count: 2, slots: 8," in text
    assert "threads: 1}" in text
