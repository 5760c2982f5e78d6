"""A run can begin with the weights of an exported checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.sigkill import options
from torch import nn
from transformers import T5Config, T5EncoderModel
from typer.testing import CliRunner

from koma.training.amused import AmusedRun
from koma.training.cli import app
from koma.training.judge import JudgeRun
from koma.training.loop import Options, Run, fit
from koma.training.smolvlm2 import SmolVLM2Run
from koma.training.vq import VQRun
from koma.training.weights import load_weights

torch.set_num_threads(1)


def begun(run: Run, out: Path, start: Path) -> Run:
    """The run after no step, begun from `start`."""
    fit(run, Options(out, steps=0, device="cpu", start_from=start))
    return run


def assert_holds(module: nn.Module, weights: Path) -> None:
    own = module.state_dict()
    for name, value in load_file(weights).items():
        assert torch.equal(own[name], value.float()), name


@pytest.mark.parametrize("make", [SmolVLM2Run, JudgeRun])
def test_a_run_begins_with_exactly_the_exported_weights(make: Callable[..., Run], tmp_path: Path) -> None:
    fit(make(32, tiny=True, batch=2), options(tmp_path / "first", 2))
    shipped = tmp_path / "first" / "export"
    run = begun(make(32, tiny=True, batch=2), tmp_path / "second", shipped)
    [place] = run.exported
    assert_holds(run.modules()[place], shipped / "model.safetensors")


def test_an_image_model_begins_with_its_own_tokens_and_so_can_its_autoencoder(tmp_path: Path) -> None:
    fit(VQRun(32, tiny=True), options(tmp_path / "vq", 2))
    first = AmusedRun(32, tiny=True, batch=4)
    fit(first, options(tmp_path / "amused", 2))
    shipped = tmp_path / "amused" / "export"
    again = AmusedRun(32, tiny=True, batch=4)
    begun(again, tmp_path / "elsewhere" / "amused", shipped)
    assert again.figures == first.figures
    for part in (again.transformer, again.vqvae):
        name = "transformer" if part is again.transformer else "vqvae"
        assert_holds(part, shipped / name / "diffusion_pytorch_model.safetensors")
    finer = VQRun(32, tiny=True)
    begun(finer, tmp_path / "finer", shipped / "vqvae")
    assert_holds(finer.model, shipped / "vqvae" / "diffusion_pytorch_model.safetensors")
    codes = finer.model.quantize.embedding.weight
    torch.testing.assert_close(finer.codebook.total / finer.codebook.usage[:, None], codes)


def test_a_resumed_run_goes_on_from_its_own_state(tmp_path: Path) -> None:
    other = JudgeRun(32, tiny=True, batch=2)
    fit(other, options(tmp_path / "other", 1))
    own = options(tmp_path / "own", 3)
    fit(JudgeRun(32, tiny=True, batch=2), own)
    run = JudgeRun(32, tiny=True, batch=2)
    start = tmp_path / "other" / "export"
    result = fit(run, Options(own.out, steps=3, device="cpu", resume=True, start_from=start))
    assert (result.first_step, result.losses) == (3, [])
    assert_holds_not(run.judge, start / "model.safetensors")


def assert_holds_not(module: nn.Module, weights: Path) -> None:
    with pytest.raises(AssertionError):
        assert_holds(module, weights)


def test_a_tensor_under_two_names_is_stored_once_and_found(tmp_path: Path) -> None:
    config = T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    torch.manual_seed(1)
    stored, fresh = T5EncoderModel(config), T5EncoderModel(config)
    stored.save_pretrained(tmp_path)
    load_weights(fresh, tmp_path)
    assert torch.equal(fresh.encoder.embed_tokens.weight, stored.shared.weight)


def test_weights_of_another_model_or_none_are_refused_by_name(tmp_path: Path) -> None:
    begun_from = ["judge", "--tiny", "--size", "32", "--steps", "1", "--device", "cpu", "--start-from"]
    none = CliRunner().invoke(app, [*begun_from, str(tmp_path), "--out", str(tmp_path / "a")])
    assert none.exit_code == 2
    assert "no weights to start from" in none.output
    fit(JudgeRun(64, tiny=True, batch=2), options(tmp_path / "larger", 0))
    with pytest.raises(ValueError, match="another model"):
        begun(JudgeRun(32, tiny=True, batch=2), tmp_path / "b", tmp_path / "larger" / "export")
