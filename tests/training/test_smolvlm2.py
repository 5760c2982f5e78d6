"""The small SmolVLM2's training sees exactly what the processor and `generate` see."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.sigkill import options, resumed_after_interrupt
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.video_utils import VideoMetadata

from koma.training.loop import Options, fit
from koma.training.smolvlm2 import PREFIX, TURN_ROOM, TURNS, SmolVLM2Run, turn_geometry, unusual_timing
from koma.training.smolvlm2_model import (
    answer_logits,
    build_model,
    build_processor,
    image_features,
    save_checkpoint,
    tiny,
)
from koma.training.smolvlm2_text import (
    IGNORED,
    Layout,
    Timing,
    build_tokenizer,
    dialogues,
    number_words,
    sampled,
)
from koma.training.world.captions import canonical
from koma.training.world.render import Renderer
from koma.training.world.scene import sample_batch, sample_scenes

torch.set_num_threads(1)
SIZE = 32


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any, Layout]:
    torch.manual_seed(0)
    shape = tiny(SIZE)
    tokenizer = build_tokenizer()
    model = build_model(shape, tokenizer).eval()
    return model, build_processor(model, tokenizer, shape.fps), Layout(tokenizer, shape.image_tokens)


def chat(medium: str, question: str, answer: str | None = None) -> list[dict[str, Any]]:
    messages = [{"role": "user", "content": [{"type": medium}, {"type": "text", "text": question}]}]
    if answer is not None:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


def processed(processor: Any, messages: list[dict[str, Any]], frames: np.ndarray, fps: float) -> Any:
    text = processor.apply_chat_template(messages, add_generation_prompt=len(messages) == 1)
    if frames.ndim == 3:
        return processor(text=[text], images=[[frames]], return_tensors="pt")
    metadata = VideoMetadata(
        total_num_frames=len(frames),
        fps=fps,
        duration=len(frames) / fps,
        frames_indices=list(range(len(frames))),
    )
    return processor(text=[text], videos=[frames], video_metadata=[metadata], return_tensors="pt")


@pytest.mark.parametrize(("total", "fps"), [(17, 8.0), (9, 8.0), (33, 16.0), (49, 10.0)])
def test_a_clips_tokens_and_pixels_are_those_of_the_processor(parts: Any, total: int, fps: float) -> None:
    _, processor, layout = parts
    batch = sample_batch(1, total)
    renderer = Renderer(SIZE, total)
    frames = renderer.clips(batch)[0].permute(0, 2, 3, 1).numpy()
    inputs = processed(processor, chat("video", "Where is it going?", "left"), frames, fps)
    timing = sampled(total, fps, 4, 16)
    mine = layout.video_prefix(timing) + layout.turn("Where is it going?", "left")[0] + layout.ids("\n")
    assert inputs.input_ids[0].tolist() == mine
    pixels = renderer.frames_at(batch, torch.tensor(timing.places)).float() / 127.5 - 1
    assert (inputs.pixel_values - pixels).abs().max() < 0.02


def test_an_images_tokens_are_those_of_the_processor(parts: Any) -> None:
    _, processor, layout = parts
    image = Renderer(SIZE).images(sample_batch(1, 0))[0].permute(1, 2, 0).numpy()
    inputs = processed(processor, chat("image", "What is it?", "a cat"), image, 0)
    mine = layout.image_prefix() + layout.turn("What is it?", "a cat")[0] + layout.ids("\n")
    assert inputs.input_ids[0].tolist() == mine
    assert inputs.pixel_values.shape == (1, 1, 3, SIZE, SIZE)


def test_a_question_ends_where_the_processor_lets_the_answer_begin(parts: Any) -> None:
    _, processor, layout = parts
    image = Renderer(SIZE).images(sample_batch(1, 0))[0].permute(1, 2, 0).numpy()
    inputs = processed(processor, chat("image", "What is it?"), image, 0)
    assert inputs.input_ids[0].tolist() == layout.image_prefix() + layout.question("What is it?")


def test_the_usual_clip_is_seen_in_eight_frames() -> None:
    assert [round(place * 16) for place in sampled(17, 8, 4, 16).places] == [0, 2, 4, 6, 9, 11, 13, 16]


@pytest.mark.parametrize("turns", [TURNS, 9])
def test_hardly_a_dialogue_is_left_out_for_want_of_room(parts: Any, turns: int) -> None:
    layout = parts[2]
    rng = np.random.default_rng(0)
    chats = [dialogues(scene, rng, "clip", turns) for scene in sample_scenes(2000, 1)]
    lengths = [sum(len(layout.turn(*dialogue)[0]) for dialogue in chat) for chat in chats]
    assert np.mean(np.array(lengths) > turns * TURN_ROOM) < 0.03


def test_every_word_of_the_world_is_one_token(parts: Any) -> None:
    tokenizer = parts[2].tokenizer
    for scene in sample_scenes(500, 2):
        text = f" {canonical(scene)}"
        assert len(tokenizer.encode(text)) == len(text.split())
    other = " Zoë plays a 7-string bass… 🐈"
    assert tokenizer.decode(tokenizer.encode(other)) == other


def test_numbers_are_written_as_the_processor_writes_them() -> None:
    from num2words import num2words

    assert [number_words(number) for number in range(1, 100)] == [
        num2words(number) for number in range(1, 100)
    ]


def test_turns_that_share_a_prefix_see_what_they_would_see_alone(parts: Any) -> None:
    model, _, layout = parts
    batch = sample_batch(2, 3)
    timing = sampled(17, 8, 4, 16)
    pixels = Renderer(SIZE).frames_at(batch, torch.tensor(timing.places)).float() / 127.5 - 1
    prefix = layout.video_prefix(timing)
    asked = [layout.turn("What is it?", "a cat")[0], layout.turn("Is it at night?", "yes")[0]]
    row, turns = list(prefix), [PREFIX] * len(prefix)
    for turn, ids in enumerate(asked):
        row, turns = row + ids, turns + [turn] * len(ids)
    row, turns = row + [layout.tokenizer.pad_token_id] * 3, turns + [9] * 3
    at_pictures = torch.tensor([i for i, token in enumerate(row) if token == model.config.image_token_id])
    mask, positions = turn_geometry(torch.tensor([turns] * 2), len(prefix))
    with torch.no_grad():
        shared, *_ = answer_logits(model, torch.tensor([row] * 2), pixels, at_pictures, mask, positions)
        for turn, ids in enumerate(asked):
            alone = model(input_ids=torch.tensor([prefix + ids] * 2), pixel_values=pixels).logits
            start = turns.index(turn)
            torch.testing.assert_close(
                shared[:, start : start + len(ids)], alone[:, len(prefix) :], atol=1e-4, rtol=1e-4
            )
        mine, stock = image_features(model, pixels[0])[1], model.get_image_features(pixels[:1]).pooler_output
        torch.testing.assert_close(mine.flatten(0, 1), torch.cat(stock), atol=1e-5, rtol=1e-5)


def test_only_answers_carry_loss(parts: Any) -> None:
    layout = parts[2]
    ids, labels = layout.turn("What is it?", "a cup of coffee")
    learnt = [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]
    assert layout.tokenizer.decode(learnt) == " a cup of coffee<end_of_utterance>"


def test_unusual_timings_stay_within_a_clip() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        timing: Timing = unusual_timing(rng, 8)
        assert timing.places[0] == 0
        assert timing.places[-1] == 1
        assert all(0 <= second < timing.total / timing.fps for second in timing.seconds)


def test_twenty_steps_lower_the_loss_and_the_export_answers_a_stock_request(tmp_path: Path) -> None:
    run = SmolVLM2Run(size=SIZE, tiny=True, batch=4)
    result = fit(run, Options(tmp_path, steps=20, device="cpu"))
    assert result.finished
    assert np.mean(result.losses[-4:]) < 0.9 * np.mean(result.losses[:4])
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "export")
    processor = AutoProcessor.from_pretrained(tmp_path / "export")
    assert model.dtype == torch.float32
    assert any((tmp_path / "sheets").iterdir())
    clip = Renderer(SIZE).clips(sample_batch(1, 5))[0].permute(0, 2, 3, 1).numpy()
    inputs = processed(processor, chat("video", "Describe this video."), clip, 8.0)
    out = model.generate(**inputs)
    assert out.shape[1] > inputs.input_ids.shape[1]


def test_a_checkpoint_keeps_the_weights_to_half_precision(parts: Any, tmp_path: Path) -> None:
    model, _, layout = parts
    save_checkpoint(model, layout.tokenizer, tmp_path, 4)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    for mine, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=2e-3)


small_run = partial(SmolVLM2Run, size=SIZE, tiny=True, batch=2)


def test_a_run_that_was_broken_off_resumes_with_the_same_next_losses(tmp_path: Path) -> None:
    through = fit(small_run(), options(tmp_path / "through", 16))
    resumed = resumed_after_interrupt(small_run, tmp_path / "killed", 16)
    assert resumed.first_step == 10
    assert resumed.losses == pytest.approx(through.losses[10:], rel=1e-4)
