"""Guarantees of LTX-Video's training: it feeds as the stock pipelines do, learns, resumes, exports."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTXImageToVideoPipeline, LTXPipeline
from tests.training.sigkill import SAVE_EVERY, options, resumed_after_interrupt
from torch import Tensor

from koma.training.loop import fit
from koma.training.ltx import LTXRun, flow, sample_sigmas
from koma.training.ltx_parts import (
    FPS,
    FULL,
    TEXT_TOKENS,
    make_pipeline,
    make_text_encoder,
    make_tokenizer,
    make_transformer,
    make_vae,
    share_cases,
)
from koma.training.ltx_vae import LTXVAERun

torch.set_num_threads(1)
CALL: dict[str, Any] = {
    "height": 32,
    "width": 32,
    "num_frames": 9,
    "frame_rate": FPS,
    "num_inference_steps": 2,
    "max_sequence_length": TEXT_TOKENS,
    "output_type": "pt",
}


make_run = partial(LTXRun, size=32, tiny=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a trained autoencoder, as `koma train ltx-vae` leaves it."""
    runs = tmp_path_factory.mktemp("runs")
    fit(LTXVAERun(size=32, tiny=True), options(runs / "ltx-vae", 5))
    return runs


@pytest.fixture(scope="module")
def losses(folder: Path) -> list[float]:
    return fit(make_run(), options(folder / "ltx", 20)).losses


def built(folder: Path) -> LTXRun:
    run = make_run()
    run.options = options(folder / "unused", 1)
    run.build(torch.device("cpu"))
    return run


def test_twenty_steps_lower_the_loss(losses: list[float]) -> None:
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_a_run_that_was_broken_off_resumes_with_the_same_next_losses(
    folder: Path, losses: list[float]
) -> None:
    resumed = resumed_after_interrupt(make_run, folder / "killed", 20)
    assert resumed.first_step == 2 * SAVE_EVERY
    assert resumed.losses == losses[2 * SAVE_EVERY :]


def test_without_an_autoencoder_the_run_says_what_to_train_first(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no autoencoder at"):
        fit(make_run(), options(tmp_path / "ltx", 1))


def test_an_autoencoder_of_another_width_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="has 8 latent channels, this model 48"):
        fit(LTXRun(size=32), options(folder / "wide", 1))


def captured(pipeline: Any, **call: Any) -> list[dict[str, Tensor]]:
    """What the pipeline gives to its transformer, step by step, with the positions that it reckons."""
    seen: list[dict[str, Tensor]] = []

    def keep(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        names = ("num_frames", "height", "width", "rope_interpolation_scale")
        sizes = {name: keywords.get(name) for name in names}
        seen.append({**keywords, "rope": module.rope(keywords["hidden_states"], **sizes, video_coords=None)})

    pipeline.set_progress_bar_config(disable=True)
    hook = pipeline.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    pipeline(**CALL, **call)
    hook.remove()
    return seen


def test_positions_and_text_reach_the_transformer_as_from_the_stock_pipeline(folder: Path) -> None:
    run = built(folder)
    text = "A cat moving right at night"
    step = captured(run.pipeline(), prompt=text, guidance_scale=3.0)[0]
    with torch.no_grad():
        expected = run.transformer.rope(step["hidden_states"], video_coords=run.coordinates)
        ids, mask = run._tokens(["", text])
        states = run.text_encoder(ids)[0]
    for given, trained in zip(step["rope"], expected, strict=True):
        assert torch.allclose(given, trained.expand_as(given), atol=1e-6)
    assert torch.allclose(step["encoder_hidden_states"], states, atol=1e-5)
    assert torch.equal(step["encoder_attention_mask"].bool(), mask)


def test_padding_to_the_pipelines_default_length_is_what_the_long_steps_train(folder: Path) -> None:
    run = built(folder)
    batch = run.text_pool.draw(0, 2, torch.Generator().manual_seed(0))
    text = run.tokenizer.batch_decode(batch.ids, skip_special_tokens=True)
    with torch.no_grad():
        pipeline = run.pipeline()
        states, mask, *_ = pipeline.encode_prompt(text, do_classifier_free_guidance=False, device="cpu")
        trained = run._encode_text(batch, 128)
    assert states.shape[1] == 128
    assert not mask[:, TEXT_TOKENS:].any()
    assert torch.allclose(states[:, :TEXT_TOKENS], trained, atol=1e-5)


def test_a_given_first_frame_is_encoded_normalised_and_held_at_timestep_0(folder: Path) -> None:
    run = built(folder)
    batch = run.text_pool.draw(0, 1, torch.Generator().manual_seed(0))
    frame = torch.rand(1, 3, 32, 32)
    pipeline = LTXImageToVideoPipeline(**run.pipeline().components)
    steps = captured(pipeline, prompt="a cat", image=frame, guidance_scale=1.0)
    clip = (frame * 255).round().to(torch.uint8)[:, None].expand(-1, 9, -1, -1, -1)
    with torch.no_grad():
        known = run._encode(clip, torch.zeros(1, run.vae.config.latent_channels, 3, 2, 2))
    spread = run.vae.encode(frame[:, :, None] * 2 - 1).latent_dist.std.max() / run.vae.latents_std.min()
    for step in steps:
        kept = step["hidden_states"][:, : run.per_frame]
        assert (kept - known[:, : run.per_frame]).abs().max() < 6 * spread + 0.05
        assert step["timestep"].shape == batch.latents.shape[:2]
        assert (step["timestep"][:, : run.per_frame] == 0).all()
        assert (step["timestep"][:, run.per_frame :] > 0).all()


@pytest.mark.parametrize("kind", [LTXPipeline, LTXImageToVideoPipeline])
def test_with_the_velocity_of_training_the_stock_pipelines_return_the_clip(folder: Path, kind: Any) -> None:
    run = built(folder)
    batch = run.text_pool.draw(0, 1, torch.Generator().manual_seed(0))
    data = batch.latents

    def true_velocity(hidden_states: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        sigma = (timestep / 1000).reshape(1, -1, 1).clamp(min=1e-6)
        return ((hidden_states - data) / sigma,)

    run.transformer.forward = true_velocity
    pipeline = kind(**run.pipeline().components)
    pipeline.set_progress_bar_config(disable=True)
    image = {} if kind is LTXPipeline else {"image": torch.rand(1, 3, 32, 32)}
    made = pipeline(prompt="a cat", guidance_scale=1.0, **image, **CALL | {"output_type": "latent"}).frames
    assert torch.allclose(made[:, -2 * run.per_frame :], data[:, -2 * run.per_frame :], atol=1e-4)
    if kind is LTXPipeline:
        assert torch.allclose(made, data, atol=1e-4)


def test_the_loss_of_rows_with_a_first_frame_leaves_that_frame_out(folder: Path) -> None:
    run = built(folder)
    seen: list[Tensor] = []

    def velocity_error(sigma: Tensor, latents: Tensor, noise: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        seen.append(sigma)
        return latents.square().mean(-1)

    run.velocity_error = velocity_error
    _, figures = run.loss(0, torch.Generator().manual_seed(0))
    by_token, by_row = seen
    assert by_token.shape == (6, 3 * run.per_frame)
    assert by_row.shape == (10,)
    assert (by_token[:, : run.per_frame] == 0).all()
    assert (by_token[:, run.per_frame :] > 0).all()
    assert set(figures) == {"from text", "from image"}


def test_the_path_is_straight_from_data_to_noise() -> None:
    data, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    sigma = torch.tensor([0.0, 1.0])
    point, velocity = flow(data, noise, sigma)
    assert torch.equal(point[0], data[0])
    assert torch.allclose(point[1], noise[1])
    half, _ = flow(data, noise, torch.full((2, 3), 0.25))
    assert torch.allclose(half, data + 0.25 * velocity, atol=1e-6)


def test_noise_levels_lie_between_0_and_1_and_mostly_high_as_in_the_schedule() -> None:
    sigma = sample_sigmas(20_000, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert sigma.min() > 0
    assert sigma.max() <= 1
    assert 0.65 < sigma.median() < 0.8
    assert (sigma < 0.1).float().mean() > 0.01


def test_the_export_loads_with_the_stock_pipelines_and_makes_clips(folder: Path, losses: list[float]) -> None:
    export = folder / "ltx" / "export"
    text = LTXPipeline.from_pretrained(export, torch_dtype=torch.float32)
    text.set_progress_bar_config(disable=True)
    clip = text(prompt="a cat", generator=torch.Generator().manual_seed(1), **CALL).frames
    again = text(prompt="a CAT", generator=torch.Generator().manual_seed(1), **CALL).frames
    assert clip.shape == (1, 9, 3, 32, 32)
    assert clip.isfinite().all()
    assert torch.equal(clip, again), "capitals are not read as the same words"
    image = LTXImageToVideoPipeline.from_pretrained(export, torch_dtype=torch.float32)
    image.set_progress_bar_config(disable=True)
    assert image(image=clip[:, 0], prompt="a cat", **CALL).frames.shape == (1, 9, 3, 32, 32)
    assert "frame_rate=8" in (export / "README.md").read_text()
    assert not list(export.rglob("*.bin"))


def test_words_are_single_tokens_and_unknown_ones_are_silent() -> None:
    tokenizer = make_tokenizer()
    encoder = make_text_encoder(FULL, tokenizer)
    share_cases(encoder, tokenizer)
    ids = tokenizer("A Cat, moving RIGHT xylophone").input_ids
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert pieces[:5] == ["▁A", "▁Cat", ",", "▁moving", "▁RIGHT"]
    assert "<unk>" not in pieces
    table = encoder.shared.weight
    vocab = tokenizer.get_vocab()
    assert torch.equal(table[vocab["▁Cat"]], table[vocab["▁cat"]])
    assert (table[vocab["x"]] == 0).all()
    assert (table[vocab["▁cat"]] != 0).any()


def test_the_whole_model_fits_into_25_megabytes_of_float16() -> None:
    tokenizer = make_tokenizer()
    parts = (make_vae(FULL), make_transformer(FULL), make_text_encoder(FULL, tokenizer))
    assert 2 * sum(p.numel() for part in parts for p in part.parameters()) < 24.8e6
    pipeline = make_pipeline(*parts[:2], parts[2], tokenizer)
    assert pipeline.vae_spatial_compression_ratio == 16
    assert pipeline.vae_temporal_compression_ratio == 4
