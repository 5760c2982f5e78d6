"""A CLIP tokenizer for the world's captions: each of its words is one token, any other becomes pieces."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
MAX_LENGTH = 32
"""Tokens of a prompt with start and end; the longest caption of the world has about 20."""
ENOUGH_TOKENS = 8192


def build_clip_tokenizer(words: Sequence[str], max_length: int = MAX_LENGTH) -> CLIPTokenizer:
    """A `CLIPTokenizer` that maps each of `words` to one token and anything else to bytes or pieces of words.

    The merges are learnt from the words until each is whole. The end token has the highest id: CLIP's text
    models may look for the end of a prompt by the largest id.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=ENOUGH_TOKENS, min_frequency=1, end_of_word_suffix=WORD_END, initial_alphabet=alphabet,
        show_progress=False,
    )
    learner.train_from_iterator(sorted(words), trainer)
    merges = [tuple(pair) for pair in _merges(learner)]
    pieces = [*alphabet, *(letter + WORD_END for letter in alphabet), *("".join(pair) for pair in merges)]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, START, END]))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def _merges(learner: Tokenizer) -> list[list[str]]:
    import json

    merges: list[list[str] | str] = json.loads(learner.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
