"""Tokens -> text, as soon as it is certain."""

from __future__ import annotations

from typing import Any

INCOMPLETE = "\ufffd"
"""What a decoder writes for bytes that are not (yet) a character."""


class TextStream:
    """The text of an answer that grows token by token.

    A token may end inside a character of several bytes: text is certain up to there. Leading white space is
    dropped.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._given = 0

    def grown(self, tokens: list[int], *, ended: bool) -> str:
        """Return what became certain since the last call, given all ``tokens`` so far; at the end, all the
        rest."""
        text = self._tokenizer.decode(tokens, skip_special_tokens=True).lstrip()
        certain = text if ended else text.rstrip(INCOMPLETE)
        new = certain[self._given :]
        self._given = max(self._given, len(certain))
        return new
