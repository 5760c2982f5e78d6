"""Guarantees of LTX-Video's autoencoder and its training."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo
from tests.training.sigkill import SAVE_EVERY, options, resumed_after_sigkill
from torch.nn import functional

from koma.training.loop import fit
from koma.training.ltx_parts import FULL, TINY, make_vae
from koma.training.ltx_vae import LTXVAERun, gradient_loss

torch.set_num_threads(1)
make_run = partial(LTXVAERun, size=32, tiny=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    out = tmp_path_factory.mktemp("ltx-vae")
    return out, fit(make_run(), options(out, 20)).losses


def test_twenty_steps_lower_the_loss(trained: tuple[Path, list[float]]) -> None:
    losses = trained[1]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_run_killed_with_sigkill_resumes_with_the_same_next_losses(
    trained: tuple[Path, list[float]], tmp_path: Path
) -> None:
    resumed = resumed_after_sigkill(make_run, tmp_path, 20)
    assert resumed.first_step == 2 * SAVE_EVERY
    assert resumed.losses == trained[1][2 * SAVE_EVERY :]


def test_the_export_loads_with_the_stock_class_and_its_latents_have_mean_0_and_deviation_1(
    trained: tuple[Path, list[float]],
) -> None:
    folder = trained[0] / "export"
    vae = AutoencoderKLLTXVideo.from_pretrained(folder)
    assert vae.spatial_compression_ratio == 16
    assert vae.temporal_compression_ratio == 4
    run = make_run()
    run.options = options(folder, 1)
    run.build(torch.device("cpu"))
    with torch.no_grad():
        latents = vae.encode(run.pixels(32, seed=77)).latent_dist.sample()
    latents = (latents - vae.latents_mean.view(1, -1, 1, 1, 1)) / vae.latents_std.view(1, -1, 1, 1, 1)
    assert latents.mean().abs() < 0.1
    assert abs(latents.std() - 1) < 0.1
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["psnr"] > 8
    assert figures["steps"] == 20


@torch.no_grad()
def test_the_first_latent_frame_holds_frame_0_alone_and_the_first_decoded_frame_needs_nothing_else() -> None:
    torch.manual_seed(0)
    vae = make_vae(TINY).eval()
    clip = torch.rand(1, 3, 9, 32, 32)
    latents = vae.encode(clip).latent_dist.mode()
    assert latents.shape == (1, TINY.latent_channels, 3, 2, 2)
    assert torch.allclose(latents[:, :, :1], vae.encode(clip[:, :, :1]).latent_dist.mode(), atol=1e-5)
    decoded = vae.decode(latents).sample
    assert decoded.shape == clip.shape
    assert torch.allclose(decoded[:, :, :1], vae.decode(latents[:, :, :1]).sample, atol=1e-5)


@torch.no_grad()
def test_a_clip_of_128_px_and_17_frames_becomes_320_latent_vectors() -> None:
    vae = make_vae(FULL).eval()
    latents = vae.encode(torch.rand(1, 3, 17, 128, 128)).latent_dist.mode()
    assert latents.shape == (1, FULL.latent_channels, 5, 8, 8)


def test_the_gradient_loss_sees_a_blurred_edge_and_no_constant_offset() -> None:
    edge = torch.zeros(1, 3, 1, 16, 16)
    edge[..., 8:] = 1
    padding = (0, 0, 1)
    blurred = functional.avg_pool3d(edge, (1, 1, 3), stride=1, padding=padding, count_include_pad=False)
    assert gradient_loss(torch.full_like(edge, 0.3)) == 0
    assert gradient_loss(blurred - edge) > 0.01


@pytest.mark.parametrize("size", [48, 100])
def test_a_size_that_the_pipelines_would_refuse_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 32 px, got {size}"):
        LTXVAERun(size=size)
