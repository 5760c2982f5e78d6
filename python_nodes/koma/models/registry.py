"""Which families are installed: every package may bring some, by an entry point of ``koma.families``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from koma.errors import KomaError
from koma.models.family import Family
from koma.runtime.runner import Runner

GROUP = "koma.families"


def names() -> tuple[str, ...]:
    """Return the names of the installed families, sorted; imports none of them."""
    return tuple(sorted(_installed()))


def find(name: str) -> Family:
    """Return an installed family.

    Raises:
        KomaError: ``load_failed`` where no package or more than one brings it, or where its package is
            broken.
    """
    points = _installed().get(name, ())
    if not points:
        raise _failed(
            name, f"no family named {name} is installed; installed are {', '.join(names()) or 'none'}"
        )
    if len(points) > 1:
        places = ", ".join(point.value for point in points)
        raise _failed(name, f"several packages bring a family named {name}: {places}; uninstall all but one")
    return _import(points[0])


def load(
    family: str, checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]
) -> Runner:
    """Load a checkpoint of ``family``; raises KomaError ``load_failed`` where there is no such family."""
    return find(family).load(checkpoint, device, dtype, slots, options)


@cache
def _installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Entry points by name. The same package may be found at two places of the path; it counts once."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {})[point.value] = point
    return {name: tuple(points.values()) for name, points in found.items()}


def _import(point: EntryPoint) -> Family:
    try:
        family = point.load()
    except Exception as error:  # whatever a foreign module raises while it is imported
        why = f"{type(error).__name__}: {error}"
        raise _failed(point.name, f"{point.value} cannot be imported: {why}") from error
    if not isinstance(family, Family) or family.name != point.name:
        raise _failed(point.name, f"{point.value} is not a koma.models.family.Family named {point.name}")
    return family


def _failed(name: str, why: str) -> KomaError:
    return KomaError("load_failed", why, field="family", value=name)
