"""The judge of generated pictures and clips: learns from truth, keeps its promises of size and shape."""

from pathlib import Path

import numpy as np
import pytest
import torch

from koma.training.judge import JudgeRun, present
from koma.training.loop import Options, fit
from koma.training.world.catalogue import OBJECTS
from koma.training.world.degrade import degrade
from koma.training.world.judge import Judge, Verdict, load_judge, save_judge
from koma.training.world.render import Renderer
from koma.training.world.scene import sample_batch

torch.set_num_threads(1)


def test_pictures_and_clips_of_any_size_and_length_are_judged() -> None:
    judge = Judge(32, (16, 16, 24, 32))
    assert judge.look(torch.zeros(2, 3, 48, 64, dtype=torch.uint8)).objects.shape == (2, len(OBJECTS))
    verdict = judge.watch(torch.rand(3, 9, 3, 32, 32))
    assert verdict.motion is not None
    assert verdict.background.shape == (3, 6)
    assert verdict.motion.shape == (3, 7)


def test_a_verdict_names_as_many_objects_as_asked() -> None:
    scores = torch.zeros(2, len(OBJECTS))
    scores[0, [3, 5]] = torch.tensor([2.0, 1.0])
    scores[1, 7] = 1.0
    assert Verdict(scores, torch.zeros(2, 6)).kinds(torch.tensor([2, 1])) == [
        frozenset({3, 5}),
        frozenset({7}),
    ]


def test_the_wanted_objects_are_those_of_the_scene() -> None:
    batch = sample_batch(50, 1)
    for scene, row in zip(batch.scenes(), present(batch), strict=True):
        assert set(row.nonzero().flatten().tolist()) == set(scene.kinds)


def test_damage_is_light_and_the_same_for_all_frames_of_a_clip() -> None:
    clips = Renderer(32, 5).clips(sample_batch(16, 2))
    damaged = degrade(clips, torch.Generator().manual_seed(0))
    assert damaged.shape == clips.shape
    assert 0.001 < (damaged - clips.float() / 255).abs().mean() < 0.08
    again = degrade(clips, torch.Generator().manual_seed(0))
    assert torch.equal(damaged, again)


def test_a_saved_judge_judges_the_same(tmp_path: Path) -> None:
    judge = Judge(32, (16, 16, 24, 32)).eval()
    save_judge(judge, tmp_path)
    pictures = Renderer(32).images(sample_batch(4, 3))
    with torch.no_grad():
        torch.testing.assert_close(
            load_judge(tmp_path).look(pictures).objects, judge.look(pictures).objects, atol=2e-2, rtol=2e-2
        )
    (tmp_path / "config.json").write_text('{"size": 32, "widths": [16, 16, 24, 32], "objects": ["unicorn"]}')
    with pytest.raises(ValueError, match="other objects"):
        load_judge(tmp_path)


def test_the_full_size_judge_stays_small() -> None:
    assert sum(parameter.numel() for parameter in Judge().parameters()) * 2 < 4e6


def test_twenty_steps_lower_the_loss(tmp_path: Path) -> None:
    result = fit(JudgeRun(size=32, tiny=True), Options(tmp_path, steps=20, device="cpu"))
    assert np.mean(result.losses[-4:]) < 0.97 * np.mean(result.losses[:4])
    assert (tmp_path / "export" / "model.safetensors").exists()
