"""Reading a caption back: which objects, background and motion a text speaks of. For evaluation only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .catalogue import BACKGROUNDS, MOTIONS, OBJECTS
from .grammar import BACKGROUND_ANSWERS, BACKGROUND_PHRASES, MOTION_ANSWERS, MOTION_PHRASES, MOTION_VERBS


@dataclass(frozen=True)
class Truth:
    """What a text says: catalogue indices; None where it says nothing or contradicts itself."""

    objects: tuple[int, ...]
    background: int | None
    motion: int | None


def parse(text: str) -> Truth:
    """Read a caption or an answer; case, punctuation and unknown words do not matter."""
    words = " ".join(re.findall(r"\w+", text.lower()))
    objects = tuple(dict.fromkeys(index for _, index in _find(words, _OBJECT_NAMES)))
    return Truth(objects, _single(words, _BACKGROUND_NAMES), _single(words, _MOTION_NAMES))


def _find(words: str, names: list[tuple[str, int]]) -> list[tuple[int, int]]:
    """Return (position, index) of every mention, longest names first, no two of them overlapping."""
    found = []
    for name, index in names:
        pattern = rf"(?<!\w){re.escape(name)}(?!\w)"
        found += [(match.start(), index) for match in re.finditer(pattern, words)]
        words = re.sub(pattern, lambda match: "#" * len(match.group()), words)
    return sorted(found)


def _single(words: str, names: list[tuple[str, int]]) -> int | None:
    """Return the one index mentioned, None if there is none or more than one."""
    mentioned = {index for _, index in _find(words, names)}
    return mentioned.pop() if len(mentioned) == 1 else None


def _longest_first(rows: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(
        {(" ".join(re.findall(r"\w+", name)), index) for name, index in rows},
        key=lambda row: (-len(row[0]), row),
    )


_OBJECT_NAMES = _longest_first(
    [(name, index) for index, kind in enumerate(OBJECTS) for name in (kind.name, *kind.aliases)]
    + [(f"{kind.name}s", index) for index, kind in enumerate(OBJECTS)]
)
_BACKGROUND_NAMES = _longest_first(
    [
        (name, index)
        for index in range(len(BACKGROUNDS))
        for name in (*BACKGROUND_PHRASES[index], BACKGROUND_ANSWERS[index])
    ]
)
_MOTION_NAMES = _longest_first(
    [
        (name, index)
        for index in range(len(MOTIONS))
        for name in (*MOTION_PHRASES[index], *MOTION_VERBS[index], MOTION_ANSWERS[index])
    ]
)
