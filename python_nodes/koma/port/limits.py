"""The limits of the wire, the same numbers as in ``docs/wire.md``."""

from __future__ import annotations

PROTOCOL_VERSION = 1

MAX_FRAME = 8 * 1024 * 1024
"""Bytes of one frame: previews and parameters only; media travel as paths."""

MAX_DEPTH = 16
"""Nesting of maps and lists: schemas need about 8."""

MAX_STRING = 1024 * 1024
"""Bytes of one string: a prompt has its own, smaller bound."""

MAX_OUTPUTS = 16
"""Artifacts of one job."""

MAX_INLINE_TEXT = 64 * 1024
"""Bytes of a text output that travels in ``done`` itself; a longer one is written to a file."""
