"""Captions, questions and their reading: what the grammar says, the parser understands."""

import re

import numpy as np
import pytest

from koma.training.world.captions import canonical, caption, captions, parse, questions, vocabulary
from koma.training.world.catalogue import BACKGROUNDS, MOTIONS, kind_of
from koma.training.world.questions import checks
from koma.training.world.scene import sample_batch, sample_scenes


def test_every_caption_is_read_back_as_its_scene() -> None:
    rng = np.random.default_rng(0)
    for scene in sample_scenes(3000, 1):
        truth = parse(caption(scene, rng))
        assert truth.objects == scene.kinds
        assert truth.motion == scene.motion
        assert truth.background in (scene.background, None)


def test_the_canonical_caption_says_everything_and_is_short() -> None:
    for scene in sample_scenes(500, 2):
        truth = parse(canonical(scene))
        assert (truth.objects, truth.background, truth.motion) == (
            scene.kinds,
            scene.background,
            scene.motion,
        )
        assert len(canonical(scene).split()) <= 16


def test_image_captions_speak_of_the_motion_half_of_the_time() -> None:
    batch = sample_batch(1000, 3)
    texts = captions(batch, np.random.default_rng(1), "image")
    said = [parse(text).motion is not None for text in texts]
    assert 0.4 < np.mean(said) < 0.6


def test_the_same_generator_gives_the_same_captions() -> None:
    batch = sample_batch(50, 4)
    assert captions(batch, np.random.default_rng(5)) == captions(batch, np.random.default_rng(5))


@pytest.mark.parametrize(
    ("text", "names", "background", "motion"),
    [
        ("a café under cherry trees", ("cup of coffee", "cherry blossom"), None, None),
        ("A Cat, moving RIGHT at Night!", ("cat",), "night", "right"),
        ("at night, a cat slides to the right", ("cat",), "night", "right"),
        ("a green apple in the green grass growing smaller", ("green apple",), "meadow", "shrinking"),
        ("a bird of no known kind", (), None, None),
        ("", (), None, None),
        ("a cat moving left and right", ("cat",), None, None),
    ],
)
def test_texts_are_read_tolerantly(
    text: str, names: tuple[str, ...], background: str | None, motion: str | None
) -> None:
    truth = parse(text)
    assert truth.objects == tuple(kind_of(name) for name in names)
    assert truth.background == (None if background is None else BACKGROUNDS.index(background))
    assert truth.motion == (None if motion is None else MOTIONS.index(motion))


def test_the_vocabulary_has_every_word_that_can_be_said() -> None:
    rng = np.random.default_rng(6)
    words = set(vocabulary())
    for scene in sample_scenes(2000, 7):
        texts = [caption(scene, rng), caption(scene, rng, "image")]
        texts += [part for pair in questions(scene, rng) for part in pair]
        assert set(re.findall(r"\w+", " ".join(texts).lower())) <= words


def test_yes_and_no_come_equally_often() -> None:
    rng = np.random.default_rng(8)
    answers = [answer for scene in sample_scenes(2000, 9) for _, answer in checks(scene, rng)]
    assert set(answers) == {"yes", "no"}
    assert 0.47 < np.mean([answer == "yes" for answer in answers]) < 0.53


def test_checks_are_answered_by_the_truth() -> None:
    rng = np.random.default_rng(10)
    for scene in sample_scenes(1000, 11, objects=(1,)):
        for question, answer in checks(scene, rng):
            said = parse(question)
            agrees = (
                said.objects in ((), scene.kinds)
                and said.background in (None, scene.background)
                and said.motion in (None, scene.motion)
            )
            assert agrees == (answer == "yes"), (question, answer, scene)


def test_images_are_not_asked_about_motion() -> None:
    rng = np.random.default_rng(12)
    for scene in sample_scenes(300, 13):
        assert all(parse(question).motion is None for question, _ in questions(scene, rng, "image"))
