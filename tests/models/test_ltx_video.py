"""LTX-Video: our loop against the stock pipelines, alone and in flight."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from tests.models.driving import ForwardCounter, run_alone, run_arriving

from koma.models.ltx_video import decode
from koma.models.ltx_video import runner as ltx_video
from koma.runtime.runner import InputFile, Request

Make = Callable[..., Request]
TASK = "video.generate"
CLOSE = 1e-4
SMALL: dict[str, Any] = {"width": 64, "height": 64, "frames": 9, "fps": 8}
JOBS: list[dict[str, Any]] = [
    {"prompt": "a red square", "steps": 12, "guidance_scale": 3.0, "seed": 1, **SMALL},
    {"prompt": "blue", "steps": 8, "guidance_scale": 5.0, "seed": 2, "negative_prompt": "a red one", **SMALL},
    {"prompt": "a green dog", "steps": 5, "guidance_scale": 1.0, "seed": 3, **SMALL, "fps": 25},
]


@pytest.fixture(scope="module")
def folder(checkpoint: Callable[[str], Path]) -> Path:
    return checkpoint("ltx_video")


@pytest.fixture(scope="module")
def runner(folder: Path) -> Any:
    return ltx_video.load(str(folder), "cpu", "float32", 4, {})


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    from diffusers import LTXPipeline

    return LTXPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory: pytest.TempPathFactory, stock: Any) -> Path:
    """The same checkpoint with a VAE of the 0.9.5 layout, whose decoder is told a timestep."""
    from diffusers import AutoencoderKLLTXVideo, LTXPipeline

    torch.manual_seed(5)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 16, 16),
        down_block_types=("LTXVideo095DownBlock3D",) * 2,
        layers_per_block=(1, 1, 1),
        downsample_type=("spatiotemporal",) * 2,
        spatio_temporal_scaling=(True, True),
        decoder_block_out_channels=(8, 16),
        decoder_layers_per_block=(1, 1, 1),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False,) * 3,
        upsample_residual=(True, True),
        upsample_factor=(2, 2),
        timestep_conditioning=True,
        patch_size=4,
        spatial_compression_ratio=16,
        temporal_compression_ratio=4,
    )
    folder = tmp_path_factory.mktemp("conditioned")
    LTXPipeline(**{**stock.components, "vae": vae}).save_pretrained(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> InputFile:
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    path = tmp_path / "first.png"
    Image.fromarray(pixels).save(path)
    data = path.read_bytes()
    return InputFile(path, hashlib.sha256(data).hexdigest(), "image/png", len(data))


def _stock_run(pipeline: Any, job: dict[str, Any], output_type: str = "latent", **more: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=job["prompt"],
        negative_prompt=job.get("negative_prompt"),
        num_inference_steps=job["steps"],
        guidance_scale=job["guidance_scale"],
        width=job["width"],
        height=job["height"],
        num_frames=job["frames"],
        frame_rate=job["fps"],
        generator=torch.Generator().manual_seed(job["seed"]),
        max_sequence_length=64,
        output_type=output_type,
        **more,
    ).frames


def _image_pipeline(stock: Any) -> Any:
    from diffusers import LTXImageToVideoPipeline

    return LTXImageToVideoPipeline.from_pipe(stock)


def _distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    assert torch.isfinite(ours).all()
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job['steps']} steps")
def test_text_to_video_latents_are_those_of_the_stock_pipeline(
    runner: Any, stock: Any, request_of: Make, job: dict[str, Any]
) -> None:
    state = run_alone(runner, request_of(runner, TASK, **job))
    assert _distance(state.latents, _stock_run(stock, job)) < CLOSE


def test_image_to_video_latents_are_those_of_the_stock_pipeline(
    runner: Any, stock: Any, request_of: Make, picture: InputFile
) -> None:
    state = run_alone(runner, request_of(runner, TASK, {"image": picture}, **JOBS[1]))
    theirs = _stock_run(_image_pipeline(stock), JOBS[1], image=Image.open(picture.path))
    assert _distance(state.latents, theirs) < CLOSE


def test_a_fixed_shift_scheduler_gives_the_stock_latents(
    folder: Path, stock: Any, request_of: Make, tmp_path: Path
) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, LTXPipeline

    shifted = LTXPipeline(**{**stock.components, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0)})
    shifted.save_pretrained(tmp_path / "shifted")
    runner: Any = ltx_video.load(str(tmp_path / "shifted"), "cpu", "float32", 4, {})
    state = run_alone(runner, request_of(runner, TASK, **JOBS[2]))
    assert _distance(state.latents, _stock_run(shifted, JOBS[2])) < CLOSE


def test_decoded_frames_are_those_of_the_stock_pipeline(runner: Any, stock: Any, request_of: Make) -> None:
    state = run_alone(runner, request_of(runner, TASK, **JOBS[2]))
    ours = decode.frames(runner._parts, state)
    theirs = _stock_run(stock, JOBS[2], "np")[0]
    assert ours.shape == (9, 64, 64, 3)
    assert np.abs(ours / 255 - theirs).max() < 1 / 255


def test_a_decoder_with_timestep_gets_the_noise_of_the_stock_pipeline(
    conditioned: Path, request_of: Make, picture: InputFile
) -> None:
    from diffusers import LTXPipeline

    runner: Any = ltx_video.load(str(conditioned), "cpu", "float32", 4, {})
    stock = LTXPipeline.from_pretrained(conditioned)
    how = {"decode_timestep": 0.05, "decode_noise_scale": 0.025}
    ours = decode.frames(runner._parts, run_alone(runner, request_of(runner, TASK, **JOBS[2])))
    assert np.abs(ours / 255 - _stock_run(stock, JOBS[2], "np", **how)[0]).max() < 1 / 255
    state = run_alone(runner, request_of(runner, TASK, {"image": picture}, **JOBS[2]))
    theirs = _stock_run(_image_pipeline(stock), JOBS[2], "np", image=Image.open(picture.path), **how)[0]
    assert np.abs(decode.frames(runner._parts, state) / 255 - theirs).max() < 1 / 255


def test_jobs_of_12_8_5_steps_arriving_at_0_3_5_take_12_forwards_and_equal_their_solo_runs(
    runner: Any, stock: Any, request_of: Make
) -> None:
    counter = ForwardCounter(runner._parts.transformer)
    arrivals = dict(zip([0, 3, 5], [request_of(runner, TASK, **job) for job in JOBS], strict=True))
    states = run_arriving(runner, arrivals)
    assert len(counter.rows) == 12
    for state, job in zip(states, JOBS, strict=True):
        assert _distance(state.latents, _stock_run(stock, job)) < CLOSE


def test_text_to_video_and_image_to_video_of_other_shapes_share_forwards(
    runner: Any, stock: Any, request_of: Make, picture: InputFile
) -> None:
    still, wide = JOBS[1], {**JOBS[2], "width": 128, "height": 32, "steps": 6}
    counter = ForwardCounter(runner._parts.transformer)
    arrivals = {0: request_of(runner, TASK, {"image": picture}, **still), 2: request_of(runner, TASK, **wide)}
    first, second = run_arriving(runner, arrivals)
    assert counter.rows == [2, 2, 3, 3, 3, 3, 3, 3]
    theirs = _stock_run(_image_pipeline(stock), still, image=Image.open(picture.path))
    assert _distance(first.latents, theirs) < CLOSE
    assert _distance(second.latents, _stock_run(stock, wide)) < CLOSE


def test_jobs_of_another_number_of_tokens_have_another_key(runner: Any, request_of: Make) -> None:
    short, long = ({**JOBS[0], "frames": frames} for frames in (9, 13))
    keys = [runner.key(runner.prepare(request_of(runner, TASK, **job))) for job in (short, long)]
    assert keys == [3 * 8 * 8, 4 * 8 * 8]


def test_a_cancelled_job_takes_part_in_no_later_forward(runner: Any, request_of: Make) -> None:
    counter = ForwardCounter(runner._parts.transformer)
    stays, leaves = {**JOBS[0], "steps": 6}, {**JOBS[1], "steps": 6}
    arrivals = {0: request_of(runner, TASK, **stays), 1: request_of(runner, TASK, **leaves)}
    run_arriving(runner, arrivals, leave={1: 3})
    assert counter.rows == [2, 4, 4, 2, 2, 2]


def test_one_step_is_enough_for_a_finite_video(runner: Any, request_of: Make) -> None:
    state = run_alone(runner, request_of(runner, TASK, **{**JOBS[2], "steps": 1}))
    assert torch.isfinite(state.latents).all()


def test_a_stochastic_schedule_repeats_with_its_seed_and_differs_from_a_plain_one(
    stock: Any, request_of: Make, tmp_path: Path
) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, LTXPipeline

    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    LTXPipeline(**{**stock.components, "scheduler": scheduler}).save_pretrained(tmp_path / "distilled")
    runner: Any = ltx_video.load(str(tmp_path / "distilled"), "cpu", "float32", 4, {})
    once, again, other = (
        run_alone(runner, request_of(runner, TASK, **{**JOBS[2], "seed": seed})).latents for seed in (3, 3, 4)
    )
    assert torch.equal(once, again)
    assert not torch.allclose(once, other, atol=0.1)


def test_the_mp4_has_the_frames_size_and_rate_asked_for(runner: Any, request_of: Make) -> None:
    [output] = runner.finish(run_alone(runner, request_of(runner, TASK, **JOBS[2])))
    with av.open(str(output.path)) as container:
        stream = container.streams.video[0]
        seen = (
            stream.codec_context.name,
            stream.pix_fmt,
            stream.width,
            stream.height,
            int(stream.average_rate or 0),
        )
        assert seen == ("h264", "yuv420p", 64, 64, 25)
        assert sum(1 for _ in container.decode(stream)) == 9
    told = {name: value for name, value in output.meta.items() if not name.endswith(("_tokens", "notice"))}
    assert told == {"width": 64, "height": 64, "frames": 9, "fps": 25, "seed": 3, "steps": 5}
    assert output.meta["prompt_tokens"] >= output.meta["read_tokens"] > 0


def test_a_preview_shows_one_frame_of_the_guess(runner: Any, request_of: Make) -> None:
    state = runner.prepare(request_of(runner, TASK, **JOBS[0]))
    assert runner.preview(state) is None
    runner.step([state])
    preview = runner.preview(state)()
    assert (preview.media_type, preview.width, preview.height) == ("image/jpeg", 64, 64)


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 70), ("height", 5000), ("frames", 10), ("frames", 100_000), ("fps", 0), ("steps", 101)],
)
def test_a_parameter_out_of_its_bounds_is_refused_by_name(runner: Any, field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        runner.tasks[TASK].params.model_validate({"prompt": "a cat", field: value})
    assert refused.value.errors()[0]["loc"] == (field,)


def test_frames_are_whole_latent_frames_and_one(runner: Any) -> None:
    frames = runner.tasks[TASK].params.model_json_schema()["properties"]["frames"]
    assert frames["enum"][:4] == [5, 9, 13, 17]
    assert (frames["enum"][-1], frames["default"]) == (33, 17), "up to twice the checkpoint's own number"
