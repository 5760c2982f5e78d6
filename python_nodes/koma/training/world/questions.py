"""Questions about a scene with their answers; yes and no come equally often."""

from __future__ import annotations

import numpy as np

from .catalogue import BACKGROUNDS, MOTIONS, OBJECTS, indefinite_article
from .grammar import BACKGROUND_ANSWERS, BACKGROUND_PHRASES, MOTION_ANSWERS, MOTION_PHRASES
from .scene import Medium, Scene

WHAT: tuple[str, ...] = ("What is it?", "What is this?", "What do you see?", "What does it show?")
GOING: tuple[str, ...] = (
    "Where is it going?",
    "How does it move?",
    "What is it doing?",
    "Which way does it move?",
)
PLACE: tuple[str, ...] = (
    "What is the background?",
    "What is in the background?",
    "Where is it?",
    "What time or place is it?",
)
COUNT: tuple[str, ...] = ("How many objects are there?", "How many things are there?")
COUNTS: tuple[str, ...] = ("one", "two")
OBJECT_CHECKS: tuple[str, ...] = ("Is this {}?", "Is there {}?", "Is it {}?", "Do you see {}?")
MOTION_CHECKS: tuple[str, ...] = ("Is it {}?",)
BACKGROUND_CHECKS: tuple[str, ...] = ("Is it {}?", "Is this {}?")
WHOLE_CHECKS: tuple[str, ...] = ("Does this show {}?", "Is this {}?")

CHECKS: tuple[str, ...] = OBJECT_CHECKS + MOTION_CHECKS + BACKGROUND_CHECKS + WHOLE_CHECKS

QUESTION_WORDS: tuple[str, ...] = (
    *(WHAT + GOING + PLACE + COUNT + COUNTS),
    *("yes", "no"),
    *(check.format("") for check in CHECKS),
)


def _single_checks() -> frozenset[str]:
    """Return every yes/no question that asks for one thing: an object, a background or a motion."""
    nouns = [_noun(kind) for kind in range(len(OBJECTS))]
    places = [phrase for phrases in BACKGROUND_PHRASES for phrase in phrases]
    moves = [phrase for phrases in MOTION_PHRASES for phrase in phrases]
    asked = ((OBJECT_CHECKS, nouns), (BACKGROUND_CHECKS, places), (MOTION_CHECKS, moves))
    return frozenset(
        check.format(phrase) for forms, phrases in asked for check in forms for phrase in phrases
    )


def questions(scene: Scene, rng: np.random.Generator, medium: Medium = "clip") -> list[tuple[str, str]]:
    """Return open and yes/no questions with their answers about a scene; of an image none on motion."""
    return open_questions(scene, rng, medium) + checks(scene, rng, medium)


def open_questions(scene: Scene, rng: np.random.Generator, medium: Medium = "clip") -> list[tuple[str, str]]:
    """Return open and yes/no questions about a scene with answers; none on motion for an image."""
    names = " and ".join(_noun(kind) for kind in scene.kinds)
    asked = [
        (_pick(WHAT, rng), names),
        (_pick(PLACE, rng), BACKGROUND_ANSWERS[scene.background]),
        (_pick(COUNT, rng), COUNTS[len(scene.objects) - 1]),
    ]
    if medium == "clip":
        asked.append((_pick(GOING, rng), MOTION_ANSWERS[scene.motion]))
    return asked


def checks(scene: Scene, rng: np.random.Generator, medium: Medium = "clip") -> list[tuple[str, str]]:
    """Return one yes/no question each about an object, the background, the whole and, of a clip, the motion.

    Each is true with probability one half; a false one about the whole is wrong in exactly one respect.
    """
    asked = [_ask_object(scene, rng), _ask_background(scene, rng), _ask_whole(scene, rng, medium)]
    if medium == "clip":
        asked.append(_ask_motion(scene, rng))
    return asked


def _ask_object(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    true = rng.random() < 0.5
    kind = (
        scene.kinds[int(rng.integers(len(scene.kinds)))] if true else _other(len(OBJECTS), scene.kinds, rng)
    )
    return _pick(OBJECT_CHECKS, rng).format(_noun(kind)), _yes(true)


def _ask_background(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    true = rng.random() < 0.5
    background = scene.background if true else _other(len(BACKGROUNDS), (scene.background,), rng)
    return _pick(BACKGROUND_CHECKS, rng).format(_pick(BACKGROUND_PHRASES[background], rng)), _yes(true)


def _ask_motion(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    true = rng.random() < 0.5
    motion = scene.motion if true else _other(len(MOTIONS), (scene.motion,), rng)
    return _pick(MOTION_CHECKS, rng).format(_pick(MOTION_PHRASES[motion], rng)), _yes(true)


def _ask_whole(scene: Scene, rng: np.random.Generator, medium: Medium) -> tuple[str, str]:
    true = rng.random() < 0.5
    kinds, background, motion = list(scene.kinds), scene.background, scene.motion
    wrong = -1 if true else int(rng.integers(3 if medium == "clip" else 2))
    if wrong == 0:
        kinds[int(rng.integers(len(kinds)))] = _other(len(OBJECTS), scene.kinds, rng)
    elif wrong == 1:
        background = _other(len(BACKGROUNDS), (background,), rng)
    elif wrong == 2:
        motion = _other(len(MOTIONS), (motion,), rng)
    parts = [" and ".join(_noun(kind) for kind in kinds)]
    if medium == "clip":
        parts.append(_pick(MOTION_PHRASES[motion], rng))
    parts.append(_pick(BACKGROUND_PHRASES[background], rng))
    return _pick(WHOLE_CHECKS, rng).format(" ".join(parts)), _yes(true)


def _noun(kind: int) -> str:
    return f"{indefinite_article(OBJECTS[kind].name)} {OBJECTS[kind].name}"


def _other(count: int, taken: tuple[int, ...], rng: np.random.Generator) -> int:
    """Return any index below `count` that is not taken."""
    free = [index for index in range(count) if index not in taken]
    return free[int(rng.integers(len(free)))]


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _yes(true: bool) -> str:
    return "yes" if true else "no"


SINGLE_CHECKS = _single_checks()
