"""The trained checkpoints that ship with Koma go through the same code; absent ones are skipped by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.driving import run_alone

from koma.models import registry
from koma.models.ltx_video import decode
from koma.models.media import encode as media
from koma.runtime.runner import InputFile, Request

Make = Callable[..., Request]
FAMILIES = ["amused", "ltx_video", "smolvlm2"]
MAX_BYTES = 25_000_000


def _shipped(family: str) -> Path:
    found = registry.find(family)
    folder = found.shipped / "emoji" / found.folder
    if not folder.is_dir():
        pytest.skip(f"no trained checkpoint for {family} in {folder}")
    return folder


def _load(family: str) -> Any:
    return registry.load(family, "emoji", "cpu", "float32", 4, {})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shipped_checkpoint_is_small_holds_no_pickle_and_has_a_card(family: str) -> None:
    files = [path for path in _shipped(family).rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert weights
    assert sum(path.stat().st_size for path in weights) <= MAX_BYTES
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pickle", ".pkl")]
    assert (_shipped(family) / "README.md").is_file()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shipped_checkpoint_does_not_call_its_results_noise(family: str) -> None:
    _shipped(family)
    assert "untrained" not in (_load(family).loaded.notice or "")


def test_the_shipped_amused_paints_at_its_native_size_what_the_stock_pipeline_paints(
    request_of: Make,
) -> None:
    from diffusers import AmusedPipeline

    folder = _shipped("amused")
    runner = _load("amused")
    request = request_of(runner, "image.generate", prompt="a cat at night", seed=3)
    [output] = runner.finish(run_alone(runner, request))
    pipeline = AmusedPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    params = request.params
    [stock] = pipeline(
        "a cat at night",
        num_inference_steps=params.steps,
        guidance_scale=params.guidance_scale,
        temperature=(params.temperature, 0),
        generator=torch.Generator().manual_seed(3),
    ).images
    assert np.array_equal(np.asarray(Image.open(output.path)), np.asarray(stock))


def test_the_shipped_ltx_video_films_what_the_stock_pipeline_films(request_of: Make) -> None:
    from diffusers import LTXPipeline

    folder = _shipped("ltx_video")
    runner = _load("ltx_video")
    request = request_of(runner, "video.generate", prompt="a cat moving right at night", seed=3, steps=6)
    assert request.params.width <= 256, "koma.json of the checkpoint names its sizes"
    state = run_alone(runner, request)
    ours = decode.frames(runner._parts, state)
    pipeline = LTXPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    params = request.params
    theirs = pipeline(
        params.prompt,
        width=params.width,
        height=params.height,
        num_frames=params.frames,
        frame_rate=params.fps,
        num_inference_steps=6,
        guidance_scale=params.guidance_scale,
        generator=torch.Generator().manual_seed(3),
        max_sequence_length=runner._parts.text_tokens,
        output_type="np",
    ).frames[0]
    assert ours.shape == theirs.shape
    assert np.abs(ours / 255 - theirs).max() < 2 / 255


def test_the_shipped_smolvlm2_answers_in_words(request_of: Make, tmp_path: Path) -> None:
    _shipped("smolvlm2")
    runner = _load("smolvlm2")
    path = media.write_mp4(tmp_path, np.full((17, 128, 128, 3), 120, dtype=np.uint8), 8)
    clip = InputFile(path, "0" * 64, "video/mp4", path.stat().st_size)
    [output] = runner.finish(run_alone(runner, request_of(runner, "video.understand", {"video": clip})))
    assert output.text
    assert output.text.isprintable()
    assert output.meta["of"] == 17
