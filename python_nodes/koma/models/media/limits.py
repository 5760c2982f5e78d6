"""What an input may cost before it is refused. Each bound has its reason; tests stand on both sides of it."""

from __future__ import annotations

MAX_IMAGE_BYTES = 64 << 20
"""A 40-megapixel PNG of a photograph."""
MAX_IMAGE_PIXELS = 40_000_000
"""8K video frames are 33 million; 40 million RGB pixels are 120 MB once decoded."""
MAX_VIDEO_BYTES = 1 << 30
"""Ten minutes at 13 Mbit/s."""
MAX_VIDEO_SECONDS = 600.0
"""The models read at most some tens of frames; beyond ten minutes these lie too far apart to mean
anything."""
MAX_VIDEO_FRAMES = 36_000
"""600 seconds at 60 frames a second: the work of counting and decoding is bounded by this."""
MAX_VIDEO_PIXELS = 4096 * 2304
"""One frame in cinema 4K."""
MAX_FRAME_EDGE = 1024
"""Decoded frames are shrunk to this longest edge: the models see 512 pixels or fewer."""
