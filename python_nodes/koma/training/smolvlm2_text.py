"""The language side of the small SmolVLM2: its tokenizer, and chat dialogues about scenes as token ids.

The token layout is that of `SmolVLMProcessor.apply_chat_template` with an image or a video first in the
user's message. It is built here from cached pieces, because the processor takes milliseconds a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from koma.training.world.captions import canonical, vocabulary
from koma.training.world.questions import CHECKS, COUNT, GOING, PLACE, WHAT, checks, open_questions
from koma.training.world.scene import Medium, Scene

END = "<end_of_utterance>"
FAKE, GLOBAL, IMAGE = "<fake_token_around_image>", "<global-img>", "<image>"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", FAKE, IMAGE, GLOBAL, END] + [
    f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)
]
UNITS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
VIDEO_INTRO = "You are provided the following series of {count} frames from a {duration} [H:MM:SS] video.\n"
CAPTION_PROMPTS: tuple[str, ...] = (
    "Describe this {0}.",
    "Describe the {0}.",
    "Describe this {0} in one sentence.",
    "Please describe this {0}.",
    "Can you describe this {0}?",
    "Can you describe the {0} in detail?",
    "Describe what happens in this {0}.",
    "What happens in this {0}?",
    "What is happening in this {0}?",
    "What does this {0} show?",
    "What is in this {0}?",
    "Caption this {0}.",
    "Write a caption for this {0}.",
    "Describe it.",
    "Describe",
    "describe the {0}",
)
MEDIUM_NAMES: dict[Medium, tuple[str, ...]] = {"clip": ("video", "clip"), "image": ("image", "picture")}
IGNORED = -100
"""Label of the tokens that carry no loss."""


@dataclass(frozen=True)
class Timing:
    """The frames taken of a clip: their places (0 to 1), the clip's rate and its number of frames."""

    places: tuple[float, ...]
    fps: float
    total: int

    @property
    def seconds(self) -> tuple[float, ...]:
        """Times of the frames in seconds, as `VideoMetadata.timestamps` has them."""
        return tuple(round(place * (self.total - 1)) / self.fps for place in self.places)


def sampled(total: int, fps: float, rate: float, limit: int) -> Timing:
    """Choose frames as `SmolVLMVideoProcessor.sample_frames` does for clips too short to skip their ends."""
    wanted = max(1, min(round(rate * total / fps), limit))
    indices = np.unique(np.linspace(0, total - 1, wanted, dtype=int))
    return Timing(tuple(float(i) / max(1, total - 1) for i in indices), fps, total)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: every word of the world is one token, anything else falls back to bytes."""
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    words = {piece for text in _every_text() for piece, _ in splitter.pre_tokenize_str(text)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {
        token: index for index, token in enumerate([*SPECIALS, *alphabet, *sorted(words - set(alphabet))])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token=END,
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        padding_side="left",
        model_max_length=2048,
        extra_special_tokens={
            "image_token": IMAGE,
            "fake_image_token": FAKE,
            "global_image_token": GLOBAL,
            "end_of_utterance_token": END,
        },
    )


def _every_text() -> list[str]:
    """Return texts that between them hold every word of the chat format, the prompts and the world."""
    numbers = [*UNITS, *TENS] + [f"{tens}-{unit}" for tens in TENS for unit in UNITS[:9]]
    texts = ["User: " + VIDEO_INTRO.format(count=f"{number}", duration="0:00:02") for number in numbers]
    texts += [
        "\nFrame from 00:00:",
        "\n\n",
        "\nUser: ",
        "\nAssistant: yes",
        "System: ",
        "a",
        " .",
        " ?",
        " ,",
    ]
    for names in MEDIUM_NAMES.values():
        texts += [prompt.format(name) for prompt in CAPTION_PROMPTS for name in names]
    texts += [*WHAT, *GOING, *PLACE, *COUNT, *(check.format("") for check in CHECKS)]
    texts += [form for word in vocabulary() for form in (word, f" {word}", word.capitalize())]
    return texts


class Layout:
    """Token ids of the parts of a chat: the media prefix and the question-and-answer turns behind it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, image_tokens: int) -> None:
        self.tokenizer, self.image_tokens = tokenizer, image_tokens
        self.ids = lru_cache(maxsize=2**16)(self._ids)

    def image_prefix(self) -> list[int]:
        """Return the ids from the start of the chat up to the question about one image."""
        return self.ids(f"<|im_start|>User:{self._picture()}")

    def video_prefix(self, timing: Timing) -> list[int]:
        """Return the ids from the start of the chat up to the question about a clip."""
        count, seconds = len(timing.places), timing.seconds
        duration = timedelta(seconds=int(timing.total / timing.fps))
        text = "<|im_start|>User: " + VIDEO_INTRO.format(count=number_words(count), duration=duration)
        for second in seconds:
            text += f"\nFrame from {int(second // 60):02d}:{int(second % 60):02d}:{self._picture()}"
        return self.ids(text) + 2 * self.ids("\n")

    def turn(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        """Return the ids of one turn and its labels: the answer with its end, everything else ignored."""
        asked = self.question(question)
        answered = [*self.ids(f" {answer}"), self.tokenizer.eos_token_id]
        return asked + answered, [IGNORED] * len(asked) + answered

    def question(self, question: str) -> list[int]:
        """Return the ids of a question, up to where the answer begins."""
        return self.ids(f"{question}{END}\nAssistant:")

    def _picture(self) -> str:
        return FAKE + GLOBAL + IMAGE * self.image_tokens + FAKE

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


def number_words(number: int) -> str:
    """Return a number from 1 to 99 in English words, hyphenated as the processor writes it."""
    if not 1 <= number <= 99:
        raise ValueError(f"number must be between 1 and 99, not {number}")
    tens, unit = divmod(number, 10)
    if tens < 2:
        return UNITS[number - 1]
    return TENS[tens - 2] + (f"-{UNITS[unit - 1]}" if unit else "")


def dialogues(scene: Scene, rng: np.random.Generator, medium: Medium, turns: int) -> list[tuple[str, str]]:
    """Return `turns` (at least 3) questions with answers: the caption, open questions, yes/no questions."""
    asked = [description(scene, rng, medium)]
    plain, yes_no = open_questions(scene, rng, medium), checks(scene, rng, medium)
    for group, share in ((plain, (turns - 1) // 2), (yes_no, turns - 1 - (turns - 1) // 2)):
        asked += [group[i] for i in rng.permutation(len(group))[:share]]
    return asked


def description(scene: Scene, rng: np.random.Generator, medium: Medium) -> tuple[str, str]:
    """Return one of the ways to ask for a caption, and the caption."""
    prompt = CAPTION_PROMPTS[int(rng.integers(len(CAPTION_PROMPTS)))]
    name = MEDIUM_NAMES[medium][int(rng.integers(2))]
    return prompt.format(name), canonical(scene, medium)
