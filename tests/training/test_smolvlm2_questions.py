"""The second phase of SmolVLM2 trains the text model on yes/no questions, and leaves the eyes as they are."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.sigkill import options, resumed_after_interrupt

from koma.training.guide import NOT_ASKED
from koma.training.loop import Options, fit
from koma.training.smolvlm2 import SmolVLM2Run
from koma.training.smolvlm2_questions import (
    CHECKED,
    COMPARING_HEAD,
    COMPARING_LAYER,
    TURNS,
    SmolVLM2QuestionsRun,
    inputs_of,
    picture_odds,
)
from koma.training.world.scene import sample_batch, sample_scenes

torch.set_num_threads(1)
SIZE = 32
run_of = partial(SmolVLM2QuestionsRun, size=SIZE, tiny=True, batch=4)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("described")
    run = SmolVLM2Run(size=SIZE, tiny=True, batch=2)
    fit(run, Options(folder, steps=1, device="cpu", export=folder / "export"))
    return folder / "export"


@pytest.fixture
def built(described: Path, tmp_path: Path) -> SmolVLM2QuestionsRun:
    run = run_of()
    run.options = Options(tmp_path, steps=1, device="cpu", start_from=described)
    torch.manual_seed(0)
    run.build(torch.device("cpu"))
    return run


def test_a_run_without_a_checkpoint_to_start_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--start-from"):
        fit(run_of(), Options(tmp_path, steps=1, device="cpu"))


def test_twenty_steps_lower_the_loss_and_leave_the_eyes_as_they_are(described: Path, tmp_path: Path) -> None:
    result = fit(run_of(), Options(tmp_path, steps=20, device="cpu", start_from=described))
    assert np.mean(result.losses[-4:]) < 0.95 * np.mean(result.losses[:4])
    before = load_file(described / "model.safetensors")
    after = load_file(tmp_path / "export" / "model.safetensors")
    eyes = [name for name in before if "vision_model" in name or "connector" in name]
    assert eyes
    assert all(torch.equal(before[name], after[name]) for name in eyes)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_most_dialogues_are_yes_no_questions_and_their_answers_are_right(built: SmolVLM2QuestionsRun) -> None:
    for scene in sample_scenes(20, 7):
        talk = built.talk(scene, np.random.default_rng(0), "clip")
        answers = [answer for _, answer in talk]
        assert len(talk) == TURNS
        assert sum(answer in ("yes", "no") for answer in answers) == CHECKED


def test_only_questions_for_one_thing_are_guided(built: SmolVLM2QuestionsRun) -> None:
    scenes = sample_batch(8, 3, "train", medium="image")
    chat = built.chat(scenes, "image", built.usual, np.random.default_rng(1))
    for row in range(8):
        guided = built.tokenizer.decode(chat.ids[row][chat.verdicts[row] != NOT_ASKED])
        assert "Does this show" not in guided
        assert "?" in guided


def test_the_odds_are_those_of_the_heads_own_attention(built: SmolVLM2QuestionsRun) -> None:
    scenes = sample_batch(2, 5, "train", medium="image")
    chat = built.chat(scenes, "image", built.usual, np.random.default_rng(1))
    text = built.model.model.text_model.eval()
    layer = text.layers[COMPARING_LAYER]
    row, place = torch.tensor([0, 1, 1]), torch.tensor([20, 25, 40])
    embeds = torch.randn(*chat.ids.shape, built.shape.width)
    text.set_attn_implementation("eager")
    weights: list[torch.Tensor] = []
    handle = layer.self_attn.register_forward_hook(lambda _layer, _inputs, out: weights.append(out[1]))
    bias = torch.zeros(chat.mask.shape).masked_fill(~chat.mask, -torch.inf)
    with torch.no_grad(), inputs_of(layer) as inputs:
        text(inputs_embeds=embeds, attention_mask=bias, position_ids=chat.positions, use_cache=False)
        odds = picture_odds(built.model, inputs[0], chat, row, place)
    handle.remove()
    looked = weights[0][row, COMPARING_HEAD, place][:, chat.at_pictures].sum(-1)
    torch.testing.assert_close(odds.sigmoid(), looked, atol=1e-4, rtol=1e-4)


def test_a_run_that_was_broken_off_resumes_with_the_same_next_losses(described: Path, tmp_path: Path) -> None:
    through = fit(run_of(), options(tmp_path / "through", 16, start_from=described))
    resumed = resumed_after_interrupt(run_of, tmp_path / "killed", 16, start_from=described)
    assert resumed.first_step == 10
    assert resumed.losses == pytest.approx(through.losses[10:], rel=1e-4)
