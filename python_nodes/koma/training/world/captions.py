"""Captions of scenes: a small grammar with several wordings, and the vocabulary that it can emit."""

from __future__ import annotations

import re

import numpy as np

from .catalogue import OBJECTS, indefinite_article
from .grammar import (
    BACKGROUND_ANSWERS,
    BACKGROUND_PHRASES,
    BELOW,
    BESIDE,
    MOTION_ANSWERS,
    MOTION_PHRASES,
    MOTION_VERBS,
)
from .parse import Truth, parse
from .questions import QUESTION_WORDS, questions
from .scene import Medium, Scene, SceneBatch

__all__ = ["Truth", "canonical", "caption", "captions", "noun", "parse", "questions", "vocabulary"]

ALIAS_SHARE = 0.15
"""Share of object mentions by another name, where there is one."""
PLAIN_SHARE = 0.04
"""Share of captions without the background."""
MOTION_IN_IMAGE_SHARE = 0.5
"""Share of image captions that say the motion of the clip whose first frame the image is."""
_PLURALS = frozenset({"cherry blossoms", "cherry trees"})


def noun(name: str) -> str:
    """Return a name with its article: "an octopus"; plurals have none."""
    return name if name in _PLURALS else f"{indefinite_article(name)} {name}"


def canonical(scene: Scene, medium: Medium = "clip") -> str:
    """Return the one plain wording: "a cat moving right at night"; without the motion for an image."""
    link = BELOW[0] if scene.stacked else BESIDE[0]
    parts = [f" {link} ".join(noun(OBJECTS[kind].name) for kind in scene.kinds)]
    if medium == "clip":
        parts.append(MOTION_PHRASES[scene.motion][0])
    parts.append(BACKGROUND_PHRASES[scene.background][0])
    return " ".join(parts)


def caption(scene: Scene, rng: np.random.Generator, kind: Medium = "clip") -> str:
    """Return one of the wordings of a scene, lower case, without a full stop.

    A clip's caption always says the motion. An image's says it half of the time, so that an image made from a
    clip's caption is a fit first frame of that clip.
    """
    who = _subject(scene, rng)
    where = _pick(BACKGROUND_PHRASES[scene.background], rng)
    if kind == "image" and rng.random() >= MOTION_IN_IMAGE_SHARE:
        how = ""
    elif len(scene.objects) == 1 and rng.random() < 0.3:
        how = _pick(MOTION_VERBS[scene.motion], rng)
    else:
        how = _pick(MOTION_PHRASES[scene.motion], rng)
    draw = rng.random()
    if draw < PLAIN_SHARE:
        return f"{who} {how}".rstrip()
    if draw < 0.25:
        return f"{where}, {who} {how}".rstrip()
    return " ".join(part for part in (who, how, where) if part)


def captions(batch: SceneBatch, rng: np.random.Generator, kind: Medium = "clip") -> list[str]:
    """Return one caption per scene of a batch."""
    return [caption(scene, rng, kind) for scene in batch.scenes()]


def vocabulary() -> list[str]:
    """Return every word that captions, questions and answers are made of, lower case, sorted."""
    texts = [*BESIDE, *BELOW, *BACKGROUND_ANSWERS, *MOTION_ANSWERS, *QUESTION_WORDS, "a", "an"]
    for phrases in (*BACKGROUND_PHRASES, *MOTION_PHRASES, *MOTION_VERBS):
        texts += phrases
    for kind in OBJECTS:
        texts += [kind.name, *kind.aliases]
    return sorted({word for text in texts for word in re.findall(r"\w+", text.lower())})


def _subject(scene: Scene, rng: np.random.Generator) -> str:
    names = [noun(_name(kind, rng)) for kind in scene.kinds]
    if len(names) == 1:
        return names[0]
    if scene.stacked:
        return f"{names[0]} {_pick(BELOW, rng)} {names[1]}"
    return f"{names[0]} {_pick(BESIDE, rng)} {names[1]}"


def _name(kind: int, rng: np.random.Generator) -> str:
    aliases = OBJECTS[kind].aliases
    return _pick(aliases, rng) if aliases and rng.random() < ALIAS_SHARE else OBJECTS[kind].name


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    """Return the canonical wording half of the time, else any."""
    return choices[0] if rng.random() < 0.5 else choices[int(rng.integers(len(choices)))]
