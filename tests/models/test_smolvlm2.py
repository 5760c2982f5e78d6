"""SmolVLM2: our decoding loop against ``generate``, alone and in flight."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from tests.models.driving import ForwardCounter, run_alone, run_arriving

from koma.errors import KomaError
from koma.models.media import encode as media
from koma.models.media import video
from koma.models.smolvlm2 import runner as smolvlm2
from koma.models.smolvlm2.encode import prompt_ids
from koma.models.smolvlm2.step import draw
from koma.models.smolvlm2.text import TextStream
from koma.port.messages import InputRef, Submit
from koma.runtime.runner import InputFile, Request
from koma.testing.scripted import RunningEngine

Make = Callable[..., Request]
TASK = "video.understand"


@pytest.fixture(scope="module")
def folder(checkpoint: Callable[[str], Path]) -> Path:
    return checkpoint("smolvlm2")


@pytest.fixture(scope="module")
def runner(folder: Path) -> Any:
    return smolvlm2.load(str(folder), "cpu", "float32", 4, {})


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return AutoProcessor.from_pretrained(folder), model


def _file(path: Path, media_type: str) -> InputFile:
    data = path.read_bytes()
    return InputFile(path, hashlib.sha256(data).hexdigest(), media_type, len(data))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[InputFile]:
    folder = tmp_path_factory.mktemp("pictures")
    noise = [np.random.default_rng(seed).integers(0, 255, (64, 80, 3), dtype=np.uint8) for seed in range(3)]
    return [_file(media.write_png(folder, pixels), "image/png") for pixels in noise]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> InputFile:
    small = np.random.default_rng(9).integers(0, 255, (33, 6, 8, 3), dtype=np.uint8)
    frames = small.repeat(8, axis=1).repeat(8, axis=2)
    return _file(media.write_mp4(tmp_path_factory.mktemp("clip"), frames, 8), "video/mp4")


def _stock_answer(stock: Any, batch: Any, max_new_tokens: int) -> list[int]:
    _, model = stock
    output = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False)
    answer: list[int] = output[0, batch["input_ids"].shape[1] :].tolist()
    return answer


def _stock_image_batch(stock: Any, picture: InputFile, prompt: str) -> Any:
    processor, _ = stock
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    image = Image.open(picture.path)
    return processor(text=[text], images=[[image]], do_image_splitting=False, return_tensors="pt")


def _stock_video_batch(stock: Any, clip: InputFile, prompt: str) -> Any:
    """All frames go in; the stock processor samples them."""
    from transformers.video_utils import VideoMetadata

    processor, _ = stock
    content = [{"type": "video"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    frames = video.frames(clip, range(33), "inputs.video")
    metadata = VideoMetadata(total_num_frames=33, fps=8.0, duration=33 / 8)
    return processor(
        text=[text], videos=[frames], video_metadata=[metadata], do_sample_frames=True, return_tensors="pt"
    )


def _ended(state: Any, runner: Any) -> list[int]:
    """The answer as ``generate`` tells it: with the token that ended it."""
    return state.tokens + sorted(runner._parts.ends) * (state.step - len(state.tokens))


def test_a_greedy_answer_about_an_image_is_that_of_generate(
    runner: Any, stock: Any, request_of: Make, pictures: list[InputFile]
) -> None:
    answers = []
    for picture in pictures:
        request = request_of(runner, TASK, {"image": picture}, prompt="describe", max_new_tokens=24)
        state = run_alone(runner, request)
        batch = _stock_image_batch(stock, picture, "describe")
        assert torch.equal(prompt_ids("describe", state.sight, runner._parts), batch["input_ids"][0])
        assert _ended(state, runner) == _stock_answer(stock, batch, 24)
        answers.append(state.text)
    assert len(set(answers)) == 3, "the answer depends on the picture"


def test_a_greedy_answer_about_a_video_of_several_frames_is_that_of_generate(
    runner: Any, stock: Any, request_of: Make, clip: InputFile
) -> None:
    request = request_of(runner, TASK, {"video": clip}, prompt="what moves?", max_new_tokens=24)
    state = run_alone(runner, request)
    batch = _stock_video_batch(stock, clip, "what moves?")
    assert batch["pixel_values"].shape[1] == 4
    assert torch.equal(prompt_ids("what moves?", state.sight, runner._parts), batch["input_ids"][0])
    assert _ended(state, runner) == _stock_answer(stock, batch, 24)
    [output] = runner.finish(state)
    assert output.meta["frames"] == 4
    assert output.meta["of"] == 33


def test_a_prompt_is_read_into_the_stock_models_keys_and_values_and_no_further(
    runner: Any, stock: Any, request_of: Make, pictures: list[InputFile]
) -> None:
    layers = runner._parts.model.model.text_model.layers
    first, last = (ForwardCounter(layer.mlp) for layer in (layers[0], layers[-1]))
    state = runner.prepare(request_of(runner, TASK, {"image": pictures[0]}, prompt="describe"))
    assert (first.rows, last.rows) == ([1], [])
    batch = _stock_image_batch(stock, pictures[0], "describe")
    with torch.inference_mode():
        cache = stock[1](**{**batch, **_but_for_the_last(batch)}).past_key_values
    for layer, kept in zip(cache.layers, state.row.filled, strict=True):
        assert torch.equal(layer.keys[0], kept[0])
        assert torch.equal(layer.values[0], kept[1])


def _but_for_the_last(batch: Any) -> dict[str, Any]:
    return {name: batch[name][:, :-1] for name in ("input_ids", "attention_mask")}


def test_three_answers_of_12_8_5_tokens_arriving_at_0_3_5_take_12_forwards_and_equal_generate(
    runner: Any, stock: Any, request_of: Make, pictures: list[InputFile], no_ends: None
) -> None:
    counter = ForwardCounter(runner._parts.model.lm_head)
    lengths = [12, 8, 5]
    requests = [
        request_of(runner, TASK, {"image": picture}, prompt="describe " * (1 + number), max_new_tokens=length)
        for number, (picture, length) in enumerate(zip(pictures, lengths, strict=True))
    ]
    streamed: dict[str, str] = {}
    states = run_arriving(runner, dict(zip([0, 3, 5], requests, strict=True)), texts=streamed)
    assert counter.rows == [1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 2, 1]
    for number, (state, picture) in enumerate(zip(states, pictures, strict=True)):
        batch = _stock_image_batch(stock, picture, "describe " * (1 + number))
        expected = _stock_answer(stock, batch, lengths[number])
        assert state.tokens == expected
        [output] = runner.finish(state)
        assert streamed[state.request.id] == output.text
        assert output.text == stock[0].decode(expected, skip_special_tokens=True).lstrip()


@pytest.fixture
def no_ends(runner: Any, stock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained answers end anywhere; here they go on to their last token."""
    for model in (runner._parts.model, stock[1]):
        monkeypatch.setattr(model.generation_config, "eos_token_id", -1)


def test_a_cancelled_answer_takes_part_in_no_later_forward_and_its_cache_is_freed(
    runner: Any, request_of: Make, pictures: list[InputFile], no_ends: None
) -> None:
    counter = ForwardCounter(runner._parts.model.lm_head)
    stays, leaves = (
        runner.prepare(request_of(runner, TASK, {"image": picture}, max_new_tokens=8))
        for picture in pictures[:2]
    )
    runner.step([stays, leaves])
    block = weakref.ref(leaves.row.block)
    del leaves
    runner.step([stays])
    gc.collect()
    assert block() is None
    assert counter.rows == [2, 1]


def test_an_answer_longer_than_a_block_of_the_cache_equals_generate(
    runner: Any, stock: Any, request_of: Make, pictures: list[InputFile], no_ends: None
) -> None:
    request = request_of(runner, TASK, {"image": pictures[0]}, prompt="describe", max_new_tokens=140)
    state = run_alone(runner, request)
    assert state.tokens == _stock_answer(stock, _stock_image_batch(stock, pictures[0], "describe"), 140)


def test_a_step_that_raises_changes_no_answer(
    runner: Any, request_of: Make, pictures: list[InputFile], no_ends: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(disturbed: bool) -> list[list[int]]:
        states = [
            runner.prepare(
                request_of(runner, TASK, {"image": picture}, max_new_tokens=6, temperature=1.0, seed=4)
            )
            for picture in pictures[:2]
        ]
        for number in range(6):
            if disturbed and number == 3:
                with monkeypatch.context() as patched:
                    patched.setattr(torch, "multinomial", _raise_at_second_call())
                    with pytest.raises(RuntimeError, match="out of memory"):
                        runner.step(states)
            runner.step(states)
        return [state.tokens for state in states]

    assert run(disturbed=True) == run(disturbed=False)


def _raise_at_second_call() -> Callable[..., Any]:
    calls: list[int] = []
    real = torch.multinomial

    def multinomial(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return real(*args, **kwargs)

    return multinomial


def test_a_sampled_answer_repeats_with_its_seed_whoever_shares_its_forwards(
    runner: Any, request_of: Make, pictures: list[InputFile], no_ends: None
) -> None:
    def ask(seed: int) -> Request:
        how = {"temperature": 1.5, "top_p": 0.9, "seed": seed, "max_new_tokens": 12}
        return request_of(runner, TASK, {"image": pictures[0]}, prompt="describe", **how)

    alone, other = run_alone(runner, ask(7)).tokens, run_alone(runner, ask(8)).tokens
    shared = run_arriving(runner, {0: ask(8), 2: ask(7)})
    assert [state.tokens for state in shared] == [other, alone]
    assert alone != other


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)
    assert {draw(logits, 1.0, 0.8, generator) for _ in range(200)} == {0, 1}
    assert {draw(logits, 1.0, 0.81, generator) for _ in range(200)} == {0, 1, 2}
    assert {draw(logits, 1.0, 1e-9, generator) for _ in range(50)} == {0}


def test_text_is_given_only_up_to_a_character_that_is_not_whole(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(" aé桜!").input_ids
    stream = TextStream(tokenizer)
    given = [stream.grown(tokens[: n + 1], ended=n + 1 == len(tokens)) for n in range(len(tokens))]
    assert given == ["", "a", "", "é", "", "", "桜", "!"]


def test_an_answer_that_ends_inside_a_character_gives_the_rest_at_the_end(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("a桜").input_ids[:-1]
    stream = TextStream(tokenizer)
    given = [stream.grown(tokens[: n + 1], ended=n + 1 == len(tokens)) for n in range(len(tokens))]
    assert "".join(given) == tokenizer.decode(tokens)


def test_the_same_picture_is_looked_at_once(
    runner: Any, request_of: Make, pictures: list[InputFile], folder: Path
) -> None:
    fresh: Any = smolvlm2.load(str(folder), "cpu", "float32", 4, {})
    counter = ForwardCounter(fresh._parts.model.model.connector)
    for prompt in ("one", "two"):
        fresh.prepare(request_of(fresh, TASK, {"image": pictures[0]}, prompt=prompt))
    assert len(counter.rows) == 1


def test_while_one_picture_waits_to_be_encoded_the_next_one_is_decoded(
    runner: Any, pictures: list[InputFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, decoded = runner._vision.look, SimpleQueue[str]()

    def noted(request: Request) -> Any:
        encode = look(request)
        decoded.put(request.id)
        return encode

    monkeypatch.setattr(runner._vision, "look", noted)
    with RunningEngine(runner, tmp_path) as engine, runner._parts.turns.turn():
        for job, picture in zip("ab", pictures, strict=False):
            image = InputRef(str(picture.path), picture.sha256, picture.media_type, picture.bytes)
            engine.engine.submit(Submit(job, 1, TASK, {}, {"image": image}, str(tmp_path / job), False))
        assert {decoded.get(timeout=20) for _ in range(2)} == {"a", "b"}


@pytest.mark.parametrize("mark", ["<image>", "<video>", "<end_of_utterance>"])
def test_a_mark_of_the_chat_format_in_a_prompt_is_refused(
    runner: Any, request_of: Make, pictures: list[InputFile], mark: str
) -> None:
    request = request_of(runner, TASK, {"image": pictures[0]}, prompt=f"look: {mark}")
    with pytest.raises(KomaError) as refused:
        runner.prepare(request)
    assert (refused.value.code, refused.value.field, refused.value.value) == ("invalid_value", "prompt", mark)


def test_neither_or_both_inputs_are_refused(
    runner: Any, request_of: Make, pictures: list[InputFile], clip: InputFile
) -> None:
    for inputs, code in [({}, "missing_field"), ({"image": pictures[0], "video": clip}, "invalid_request")]:
        with pytest.raises(KomaError) as refused:
            runner.prepare(request_of(runner, TASK, inputs))
        assert refused.value.code == code


def test_what_does_not_fit_the_context_is_refused_with_the_room_that_is_left(
    runner: Any, request_of: Make, clip: InputFile
) -> None:
    request = request_of(runner, TASK, {"video": clip}, prompt="x" * 1500, max_new_tokens=1000)
    with pytest.raises(KomaError) as refused:
        runner.prepare(request)
    assert (refused.value.code, refused.value.field) == ("out_of_bounds", "max_new_tokens")
    assert 0 < refused.value.bound < 548


def test_frames_follow_max_frames_and_fps(runner: Any, request_of: Make, clip: InputFile) -> None:
    seen = [
        runner.prepare(request_of(runner, TASK, {"video": clip}, **how)).sight.meta["frames"]
        for how in ({}, {"fps": 2.0}, {"max_frames": 1}, {"fps": 60.0})
    ]
    assert seen == [4, 8, 1, 8]


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_new_tokens", 0), ("temperature", float("inf")), ("top_p", 0.0), ("max_frames", 9), ("fps", 0.0)],
)
def test_a_parameter_out_of_its_bounds_is_refused_by_name(runner: Any, field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        runner.tasks[TASK].params.model_validate({field: value})
    assert refused.value.errors()[0]["loc"] == (field,)
