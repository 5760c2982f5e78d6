"""Guarantees of the VQ and its training."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import VQModel
from tests.training.sigkill import SAVE_EVERY, options, resumed_after_interrupt

from koma.training.loop import Result, fit
from koma.training.vq import MovingCodebook, VQRun, decode_tokens, encode_tokens, nearest_codes, vq_config

torch.set_num_threads(1)
STEPS = 20
tiny_run = partial(VQRun, size=32, tiny=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vq")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Result:
    return fit(tiny_run(), options(folder, STEPS))


def test_twenty_steps_lower_the_loss_and_leave_sheet_figures_and_model(trained: Result, folder: Path) -> None:
    assert len(trained.losses) == STEPS
    assert sum(trained.losses[-3:]) < 0.5 * sum(trained.losses[:3])
    assert (folder / "sheets" / "000020.png").stat().st_size > 1000
    figures = json.loads((folder / "export" / "figures.json").read_text())
    assert 5 < figures["psnr"] < 40
    assert figures["codes"] > 1


def test_a_run_that_was_broken_off_resumes_with_the_same_next_losses(trained: Result, tmp_path: Path) -> None:
    resumed = resumed_after_interrupt(tiny_run, tmp_path, STEPS)
    assert resumed.first_step == 2 * SAVE_EVERY
    assert resumed.losses == trained.losses[2 * SAVE_EVERY :]


def test_tokens_are_those_of_the_stock_model_and_decode_to_an_image(trained: Result, folder: Path) -> None:
    model = VQModel.from_pretrained(folder / "export").eval()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ids = encode_tokens(model, images)
    with torch.no_grad():
        stock = model.quantize(model.encode(images).latents)[2][2].view(3, 16, 16)
    assert ids.shape == (3, 16, 16)
    assert torch.equal(ids, stock)
    restored = decode_tokens(model, ids)
    assert restored.shape == images.shape
    assert restored.min() >= 0
    assert restored.max() <= 1


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_every_size_has_sixteen_tokens_a_side(size: int) -> None:
    levels = vq_config(size, tiny=False)["block_out_channels"]
    assert isinstance(levels, list)
    assert size >> (len(levels) - 1) == 16


@pytest.mark.parametrize("size", [16, 48, 100])
def test_a_size_that_is_no_power_of_two_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=str(size)):
        vq_config(size, tiny=True)


def test_the_nearest_code_is_the_one_of_least_distance() -> None:
    generator = torch.Generator().manual_seed(1)
    latents, codes = torch.randn(2, 4, 3, 5, generator=generator), torch.randn(7, 4, generator=generator)
    expected = torch.cdist(latents.permute(0, 2, 3, 1).reshape(-1, 4), codes).argmin(1)
    assert torch.equal(nearest_codes(latents, codes), expected)


def test_a_dead_code_comes_alive_and_codes_move_to_the_mean_of_their_latents() -> None:
    generator = torch.Generator().manual_seed(2)
    centres = 10 * torch.randn(2, 8, generator=generator)
    codebook, codes = MovingCodebook(2, 8), torch.stack([centres.mean(0), torch.full((8,), 1000.0)])
    for _ in range(400):
        latents = centres[torch.arange(64) % 2] + 0.01 * torch.randn(64, 8, generator=generator)
        ids = nearest_codes(latents.T[None, :, :, None], codes)
        codebook.update(codes, latents, ids, reseed=True, generator=generator)
    assert torch.cdist(centres, codes).min(1).values.max() < 0.1


def test_without_reseeding_an_unused_code_stays_where_it_is() -> None:
    codebook, codes = MovingCodebook(2, 3), torch.tensor([[0.0, 0, 0], [9.0, 9, 9]])
    latents, ids = torch.ones(10, 3), torch.zeros(10, dtype=torch.long)
    for _ in range(300):
        codebook.update(codes, latents, ids, reseed=False, generator=torch.Generator())
    assert torch.allclose(codes, torch.tensor([[1.0, 1, 1], [9.0, 9, 9]]), atol=1e-4)
