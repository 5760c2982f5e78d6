"""The evaluation: its statistics are right, and it measures whole checkpoints end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.models.driving import run_alone
from tests.training.sigkill import options
from typer.testing import CliRunner

from koma.models import registry
from koma.models.manifest import read
from koma.runtime.runner import Request
from koma.training.amused import AmusedRun
from koma.training.evaluate.__main__ import PARTS, app
from koma.training.evaluate.context import Context, native_size, prompts, psnr
from koma.training.evaluate.figures import Figure, balanced, mean, share, wilson
from koma.training.evaluate.images import objects_seen
from koma.training.judge import JudgeRun
from koma.training.loop import Run, fit
from koma.training.ltx import LTXRun
from koma.training.ltx_vae import LTXVAERun
from koma.training.smolvlm2 import SmolVLM2Run
from koma.training.vq import VQRun
from koma.training.world.captions import parse
from koma.training.world.catalogue import OBJECTS
from koma.training.world.judge import Verdict
from koma.training.world.scene import sample_batch

torch.set_num_threads(1)


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_figures_know_whether_they_reach_their_goals() -> None:
    figure = share("x", [True] * 9 + [False], must=90, aim=95)
    assert (figure.value, figure.n) == (90.0, 10)
    assert (figure.reached(figure.must), figure.reached(figure.aim), figure.reached(None)) == (
        True,
        False,
        None,
    )
    assert Figure("x", 2.0, 1.0, 3.0, 5, "s").reached(1.5) is False


def test_means_have_normal_intervals() -> None:
    figure = mean("x", [30.0, 32.0, 34.0, 32.0], "dB")
    assert figure.value == 32.0
    assert figure.high - figure.value == pytest.approx(1.96 * (8 / 3) ** 0.5 / 2, abs=1e-3)


def test_balanced_accuracy_weighs_both_answers_alike() -> None:
    assert balanced("x", [True] * 10, [True] * 30 + [False] * 70, 85, 95).value == pytest.approx(65)


def test_noise_of_known_strength_has_the_known_psnr() -> None:
    clean = torch.full((2, 3, 64, 64), 0.5)
    noisy = clean + 0.01 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    assert psnr(noisy, clean) == pytest.approx([40.0, 40.0], abs=0.2)


def test_objects_count_as_seen_only_if_all_of_them_are_the_likeliest() -> None:
    scenes = sample_batch(2, 1, objects=(2,))
    scores = torch.zeros(2, len(OBJECTS))
    for row, scene in enumerate(scenes.scenes()):
        for kind in scene.kinds:
            scores[row, kind] = 5.0
    scores[1, (scenes.kind[1].max() + 1) % len(OBJECTS)] = 9.0
    assert objects_seen(Verdict(scores, torch.zeros(2, 6)), scenes) == [True, False]


def test_prompts_name_everything_that_is_judged() -> None:
    scenes = sample_batch(300, 2)
    for scene, text in zip(scenes.scenes(), prompts(scenes, "clip", 1), strict=True):
        truth = parse(text)
        assert (truth.objects, truth.background, truth.motion) == (
            scene.kinds,
            scene.background,
            scene.motion,
        )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained checkpoints of all families, as the training exports them."""
    root = tmp_path_factory.mktemp("checkpoints")
    runs: list[tuple[str, str, Run]] = [
        ("judge", "judge", JudgeRun(32, tiny=True)),
        ("smolvlm2", "smolvlm2", SmolVLM2Run(32, tiny=True, batch=2)),
        ("vq", "vq", VQRun(32, tiny=True)),
        ("amused", "amused", AmusedRun(32, tiny=True)),
        ("ltx-vae", "ltx-vae", LTXVAERun(32, tiny=True)),
        ("ltx", "ltx-video", LTXRun(32, tiny=True)),
    ]
    for name, family, run in runs:
        fit(run, options(root / "runs" / name, 1))
        (root / family).symlink_to(root / "runs" / name / "export")
    return root


def test_all_parts_measure_and_the_page_shows_every_row(checkpoints: Path, tmp_path: Path) -> None:
    common = ["--checkpoints", str(checkpoints), "--out", str(tmp_path), "--size", "32", "--device", "cpu"]
    for part in ([name] for name in PARTS if name != "speed"):
        result = CliRunner().invoke(app, [*part, *common, "--samples", "8", "--batch", "4"])
        assert result.exit_code == 0, result.output
    page = (tmp_path / "quality.md").read_text()
    stored = json.loads((tmp_path / "quality" / "figures.json").read_text())
    assert set(stored) == set(PARTS) - {"speed"}
    for figures in stored.values():
        for figure in figures:
            assert f"| {figure['what']} |" in page
            assert figure["low"] <= figure["value"] <= figure["high"]
    for sheet in (
        "amused-any-12-steps.png",
        "ltx-video-text.png",
        "ltx-video-image.png",
        "smolvlm2-clips.png",
        "story.png",
    ):
        assert (tmp_path / "quality" / sheet).stat().st_size > 0
        assert sheet in page


def test_what_has_no_checkpoint_is_left_out_and_the_page_says_so(checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for family in ("judge", "smolvlm2"):
        (folder / family).symlink_to(checkpoints / family)
    few = ["judge", "videos", "--samples", "8", "--batch", "4", "--device", "cpu"]
    result = CliRunner().invoke(app, [*few, "--checkpoints", str(folder), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "videos: left out" in result.output
    assert "ltx-video" in result.output
    page = (tmp_path / "quality.md").read_text()
    assert "no trained checkpoint of `amused`, `ltx-video`" in page
    assert "judge: objects" in page


def test_pictures_have_the_size_of_the_checkpoints(checkpoints: Path, tmp_path: Path) -> None:
    assert native_size(checkpoints) == 32
    assert native_size(tmp_path) == 128
    (tmp_path / "smolvlm2").symlink_to(checkpoints / "smolvlm2")
    assert native_size(tmp_path) == 32


@pytest.mark.parametrize(
    ("family", "task", "kind"),
    [
        ("smolvlm2", "video.understand", None),
        ("amused", "image.generate", "image/png"),
        ("ltx-video", "video.generate", "video/mp4"),
    ],
)
def test_an_exported_folder_is_served_with_the_defaults_it_names(
    checkpoints: Path, tmp_path: Path, family: str, task: str, kind: str | None
) -> None:
    folder = checkpoints / family
    runner = registry.load(family.replace("-", "_"), str(folder), "cpu", "float32", 1, {})
    assert "Emoji World" in (runner.loaded.notice or "")
    fields = runner.tasks[task].params.model_fields
    defaults = read(folder, {}).defaults
    assert {name: fields[name].default for name in defaults} == defaults
    if kind:
        params = runner.tasks[task].params.model_validate({"prompt": "a cat at night", "seed": 1, "steps": 2})
        [output] = runner.finish(run_alone(runner, Request("job", task, params, {}, tmp_path)))
        assert output.media_type == kind
        assert output.path
        assert output.path.stat().st_size > 0


def test_an_unknown_part_is_refused_by_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["beauty", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "beauty" in result.output


def test_the_truth_of_an_evaluation_repeats() -> None:
    context = Context(samples=20)
    first, again = (context.scenes(1, "any", "clip").scenes() for _ in range(2))
    assert first == again
    assert first != context.scenes(2, "any", "clip").scenes()
