"""Guarantees of aMUSEd's training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import AmusedPipeline
from tests.training.sigkill import SAVE_EVERY, options, resumed_after_interrupt
from typer.testing import CliRunner

from koma.training.amused import AmusedRun, random_mask
from koma.training.cli import app
from koma.training.clip_tokenizer import build_clip_tokenizer
from koma.training.loop import Result, fit
from koma.training.vq import VQRun
from koma.training.world.captions import vocabulary

torch.set_num_threads(1)
STEPS = 20
tiny_run = partial(AmusedRun, size=32, tiny=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    fit(VQRun(size=32, tiny=True), options(folder / "vq", 8))
    return folder


@pytest.fixture(scope="module")
def trained(runs: Path) -> Result:
    return fit(tiny_run(), options(runs / "amused", STEPS))


def test_twenty_steps_lower_the_loss(trained: Result) -> None:
    assert len(trained.losses) == STEPS
    assert sum(trained.losses[-3:]) < 0.95 * sum(trained.losses[:3])


def test_a_run_that_was_broken_off_resumes_with_the_same_next_losses(
    trained: Result, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "vq").symlink_to(runs / "vq")
    resumed = resumed_after_interrupt(tiny_run, tmp_path / "amused", STEPS)
    assert resumed.first_step == 2 * SAVE_EVERY
    assert resumed.losses == trained.losses[2 * SAVE_EVERY :]


def test_the_export_is_a_stock_pipeline_whose_images_follow_the_seed(trained: Result, runs: Path) -> None:
    folder = runs / "amused" / "export"
    pipeline = AmusedPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def image(seed: int) -> bytes:
        generator = torch.Generator().manual_seed(seed)
        made = pipeline("a cat at night", num_inference_steps=4, guidance_scale=3.0, generator=generator)
        made = made.images[0]
        assert made.size == (32, 32)
        return bytes(made.tobytes())

    assert image(0) == image(0) != image(1)
    assert pipeline.scheduler.config.mask_token_id == pipeline.vqvae.config.num_vq_embeddings
    assert not [path for path in folder.glob("*/config.json") if str(runs) in path.read_text()]
    card = (folder / "README.md").read_text()
    assert "20 steps" in card
    assert "koma.training.cli" in card
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_training_without_a_vq_says_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["amused", "--tiny", "--steps", "1", "--out", str(tmp_path / "amused")])
    assert result.exit_code == 2
    assert "koma train vq" in result.output


def test_masks_cover_between_one_and_all_tokens_by_the_cosine_schedule() -> None:
    ids = torch.zeros(4000, 16, 16, dtype=torch.long)
    shares = random_mask(ids, torch.Generator().manual_seed(0)).flatten(1).float().mean(1)
    assert shares.min() >= 1 / 256
    assert shares.max() == 1.0
    assert shares.mean() == pytest.approx(2 / torch.pi, abs=0.02)


def test_every_word_of_the_world_is_one_token_and_other_words_are_pieces_without_unknowns() -> None:
    tokenizer = build_clip_tokenizer(vocabulary())
    assert all(len(tokenizer(word).input_ids) == 3 for word in vocabulary())
    assert tokenizer.eos_token_id == len(tokenizer) - 1 == max(tokenizer.get_vocab().values())
    pieces = tokenizer("Żółw & giraffe 🦒").input_ids[1:-1]
    assert tokenizer.eos_token_id not in pieces
    assert len(pieces) > 4
