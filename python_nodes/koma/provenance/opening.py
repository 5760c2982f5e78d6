"""Which marks the outputs of a model node get: decided when its checkpoint is loaded."""

from __future__ import annotations

import logging

from koma import __version__
from koma.provenance import settings
from koma.provenance.stamp import Marks, Unmarked
from koma.runtime.runner import Runner

_log = logging.getLogger(__name__)
_MEDIA = ("image/", "video/", "audio/")


def makes_media(runner: Runner) -> bool:
    """Whether the family makes pictures, videos or sounds."""
    kinds = [kind for task in runner.tasks.values() for kind in task.outputs.values()]
    return any(kind.startswith(_MEDIA) for kind in kinds)


def open_for(runner: Runner) -> Marks:
    """Return what the engine marks outputs with. A family without media needs no keys.

    Raises KomaError ``provenance_failed`` where the keys cannot be used.
    """
    told = settings.from_environment()
    if told is None or not makes_media(runner):
        return Unmarked()
    if not (told.invisible or told.signed):
        _log.warning("marks are off: outputs of %s do not say that a machine made them", runner.loaded.family)
        return Unmarked()
    from koma.provenance.step import Provenance  # takes long, and most model nodes in tests make no media

    return Provenance.open(told, runner.loaded, __version__)
