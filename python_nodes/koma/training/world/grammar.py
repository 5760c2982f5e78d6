"""The words of the world: how a background, a motion and a place beside each other may be said.

The first wording of every entry is the canonical one: the shortest that says all.
"""

from __future__ import annotations

BACKGROUND_PHRASES: tuple[tuple[str, ...], ...] = (
    ("by day", "in the daytime", "on a sunny day", "in daylight"),
    ("at sunset", "at dusk", "in the evening"),
    ("at night", "in the dark", "on a starry night"),
    ("in the snow", "on a snowy day", "in winter"),
    ("at sea", "on the sea", "by the sea"),
    ("in a meadow", "on the meadow", "in the green grass"),
)
MOTION_PHRASES: tuple[tuple[str, ...], ...] = (
    ("moving left", "moving to the left", "sliding left", "sliding to the left", "going left"),
    ("moving right", "moving to the right", "sliding right", "sliding to the right", "going right"),
    ("moving up", "rising", "floating up", "going up", "moving upwards"),
    ("moving down", "falling", "sinking down", "going down", "moving downwards"),
    ("growing", "growing larger", "getting bigger", "getting larger"),
    ("shrinking", "growing smaller", "getting smaller"),
    ("standing still", "not moving", "staying still", "at rest"),
)
MOTION_VERBS: tuple[tuple[str, ...], ...] = (
    ("moves left", "slides to the left", "goes left"),
    ("moves right", "slides to the right", "goes right"),
    ("moves up", "rises", "floats up"),
    ("moves down", "falls", "sinks down"),
    ("grows", "gets bigger", "grows larger"),
    ("shrinks", "gets smaller", "grows smaller"),
    ("stands still", "does not move", "stays still"),
)
"""The motions said of one object as a sentence: "a cat slides to the right"."""
BESIDE: tuple[str, ...] = ("and", "beside", "next to")
BELOW: tuple[str, ...] = ("under", "below")

BACKGROUND_ANSWERS: tuple[str, ...] = ("day", "sunset", "night", "snow", "sea", "meadow")
MOTION_ANSWERS: tuple[str, ...] = ("left", "right", "up", "down", "growing", "shrinking", "still")
