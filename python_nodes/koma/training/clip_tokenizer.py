"""A CLIP tokenizer for the world's captions: each of its words is one token, any other becomes pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
MAX_LENGTH = 32
"""Tokens of a prompt with start and end; the longest caption of the world has about 20."""

Pair = tuple[str, str]


def build_clip_tokenizer(words: Sequence[str], max_length: int = MAX_LENGTH) -> CLIPTokenizer:
    """A `CLIPTokenizer` that maps each of `words` to one token and anything else to bytes or pieces of words.

    The end token has the highest id: CLIP's text models may look for the end of a prompt by the largest id.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(words)
    pieces = [*alphabet, *(letter + WORD_END for letter in alphabet), *("".join(pair) for pair in merges)]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, START, END]))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def learn_merges(words: Sequence[str]) -> list[Pair]:
    """Byte-pair merges, the most frequent pair first, until each word is one piece (Sennrich et al., 2016).

    Ties go to the first pair in the alphabet: the trainer of `tokenizers` breaks them at random, and then the
    ids of a resumed run would not be those that its text encoder was trained with.
    """
    spelled = [_letters(word) for word in sorted(set(words))]
    merges: list[Pair] = []
    while counts := Counter(pair for pieces in spelled for pair in pairwise(pieces)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelled = [_merge(pieces, best) for pieces in spelled]
    return merges


def _letters(word: str) -> list[str]:
    """The bytes of a word in the byte-level alphabet, the last one marked as its end."""
    ((letters, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
    return [*letters[:-1], letters[-1] + WORD_END]


def _merge(pieces: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
