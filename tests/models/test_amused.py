"""aMUSEd: our loop against the stock pipeline, alone and in flight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from tests.models.driving import ForwardCounter, run_alone, run_arriving

from koma.models.amused import runner as amused
from koma.runtime.runner import Request

Make = Callable[..., Request]
TASK = "image.generate"
JOBS: list[dict[str, Any]] = [
    {"prompt": "a red square", "steps": 12, "guidance_scale": 10.0, "seed": 1},
    {"prompt": "blue", "steps": 8, "guidance_scale": 4.0, "seed": 2, "negative_prompt": "red"},
    {"prompt": "a green dog", "steps": 5, "guidance_scale": 1.0, "seed": 3, "temperature": 4.5},
]


@pytest.fixture(scope="module")
def folder(checkpoint: Callable[[str], Path]) -> Path:
    return checkpoint("amused")


@pytest.fixture(scope="module")
def runner(folder: Path) -> Any:
    return amused.load(str(folder), "cpu", "float32", 4, {})


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    from diffusers import AmusedPipeline

    pipeline = AmusedPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _stock_run(stock: Any, job: dict[str, Any], output_type: str = "latent", **more: Any) -> Any:
    return stock(
        job["prompt"],
        negative_prompt=job.get("negative_prompt"),
        num_inference_steps=job["steps"],
        guidance_scale=job["guidance_scale"],
        temperature=(job.get("temperature", 2.0), 0),
        generator=torch.Generator().manual_seed(job["seed"]),
        output_type=output_type,
        **more,
    ).images


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job['steps']} steps")
def test_tokens_are_those_of_the_stock_pipeline(
    runner: Any, stock: Any, request_of: Make, job: dict[str, Any]
) -> None:
    state = run_alone(runner, request_of(runner, TASK, **job))
    assert torch.equal(state.tokens, _stock_run(stock, job))


def test_another_size_than_the_native_one_gives_the_stock_tokens(
    runner: Any, stock: Any, request_of: Make
) -> None:
    job = {**JOBS[2], "width": 96, "height": 32}
    state = run_alone(runner, request_of(runner, TASK, **job))
    assert torch.equal(state.tokens, _stock_run(stock, job, width=96, height=32))


def test_the_png_is_the_image_of_the_stock_pipeline(runner: Any, stock: Any, request_of: Make) -> None:
    [output] = runner.finish(run_alone(runner, request_of(runner, TASK, **JOBS[0])))
    assert output.media_type == "image/png"
    ours = np.asarray(Image.open(output.path).convert("RGB"))
    assert np.array_equal(ours, np.asarray(_stock_run(stock, JOBS[0], "pil")[0]))


def test_jobs_of_12_8_5_steps_arriving_at_0_3_5_take_12_forwards_and_equal_their_solo_runs(
    runner: Any, stock: Any, request_of: Make
) -> None:
    counter = ForwardCounter(runner._parts.transformer)
    arrivals = dict(zip([0, 3, 5], [request_of(runner, TASK, **job) for job in JOBS], strict=True))
    states = run_arriving(runner, arrivals)
    assert len(counter.rows) == 12
    for state, job in zip(states, JOBS, strict=True):
        assert torch.equal(state.tokens, _stock_run(stock, job))


def test_a_cancelled_job_takes_part_in_no_later_forward(runner: Any, request_of: Make) -> None:
    counter = ForwardCounter(runner._parts.transformer)
    guided = {"guidance_scale": 4.0, "seed": 1}
    arrivals = {
        0: request_of(runner, TASK, prompt="stays", steps=6, **guided),
        1: request_of(runner, TASK, prompt="leaves", steps=6, **guided),
    }
    run_arriving(runner, arrivals, leave={1: 3})
    assert counter.rows == [2, 4, 4, 2, 2, 2]


def test_n_images_are_rows_of_one_forward_and_image_k_has_seed_plus_k_minus_1(
    runner: Any, request_of: Make
) -> None:
    counter = ForwardCounter(runner._parts.transformer)
    together = run_alone(runner, request_of(runner, TASK, prompt="a cat", steps=4, seed=7, n=3))
    assert counter.rows == [6] * 4
    third = run_alone(runner, request_of(runner, TASK, prompt="a cat", steps=4, seed=9))
    assert torch.equal(together.tokens[2:], third.tokens)
    outputs = runner.finish(together)
    assert [(output.name, output.meta["seed"]) for output in outputs] == [
        ("image", 7),
        ("image_2", 8),
        ("image_3", 9),
    ]


def test_a_preview_shows_the_guess_before_every_token_is_known(runner: Any, request_of: Make) -> None:
    state = runner.prepare(request_of(runner, TASK, prompt="a cat", steps=4, seed=7))
    assert runner.preview(state) is None
    runner.step([state])
    preview = runner.preview(state)()
    assert (preview.media_type, preview.width, preview.height) == ("image/jpeg", 64, 64)
    assert (state.tokens == runner._parts.scheduler.config.mask_token_id).any()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 66),
        ("width", 1024),
        ("height", 0),
        ("steps", 0),
        ("steps", "12"),
        ("prompt", ""),
        ("prompt", "x" * 10**6),
        ("guidance_scale", float("nan")),
        ("seed", -1),
        ("n", 9),
        ("colour", "red"),
    ],
)
def test_a_parameter_out_of_its_bounds_is_refused_by_name(runner: Any, field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        runner.tasks[TASK].params.model_validate({"prompt": "a cat", field: value})
    assert refused.value.errors()[0]["loc"] == (field,)


def test_sizes_default_to_those_of_the_checkpoint(runner: Any) -> None:
    schema = runner.tasks[TASK].params.model_json_schema()["properties"]
    assert schema["width"] == {
        "default": 64,
        "description": "Width in pixels.",
        "maximum": 128,
        "minimum": 4,
        "multipleOf": 4,
        "title": "Width",
        "type": "integer",
        "x-work": True,
    }
    assert schema["guidance_scale"]["default"] == 4.0, "from the checkpoint's koma.json"


def test_the_vq_model_keeps_a_safe_number_format_in_half_precision(folder: Path) -> None:
    half: Any = amused.load(str(folder), "cpu", "float16", 4, {})
    assert half._parts.vqvae.dtype == torch.float32
    assert half._parts.transformer.dtype == torch.float16
