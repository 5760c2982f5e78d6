"""`koma train smolvlm2-questions`: teaches a SmolVLM2 that describes well to answer yes/no questions.

Whether the asked word fits what is seen is one bit a dialogue, and learning to compare starts on a plateau:
as long as nothing compares, nothing tells how. So a head of the text model is told where to look: from an
asked word to the pictures if they show it, elsewhere if not. The eyes, which know enough, stay as they are:
pictures are encoded once for many steps, at the price of the small text model alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import SmolVLMForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from koma.training.guide import NOT_ASKED
from koma.training.loop import derive_seed
from koma.training.smolvlm2 import SMALL_LR, Chat, SmolVLM2Run, answer_loss, unusual_timing
from koma.training.smolvlm2_model import image_features, read_chat
from koma.training.smolvlm2_text import Timing, description
from koma.training.world.questions import checks, open_questions
from koma.training.world.scene import Medium, Scene, SceneBatch, sample_batch

TURNS, CHECKED = 14, 11
"""Dialogues about one clip, and how many of them are yes/no questions."""
CHUNK, CHUNK_STEPS = 512, 64
"""Samples that are encoded together, and the steps they serve for."""
IMAGE_EVERY, UNUSUAL_EVERY = 2, 4
"""Every so many chunks one is of pictures; of the others, one has an unusual timing."""
CHUNK_SEEDS = 2 * 10**9
"""Chunks take their seeds from here on, where no step counts."""
COMPARING_LAYER, COMPARING_HEAD = 1, 0
"""Where the comparison is taught: behind one layer that joins the words of a name, before two that answer."""
GUIDED = 0.7
"""Part of the run in which the guidance fades out."""


@dataclass(frozen=True)
class Seen:
    """Scenes as the text model gets them: `pictures` `[N, frames·tokens, width]`."""

    scenes: SceneBatch
    medium: Medium
    timing: Timing
    pictures: Tensor


class SmolVLM2QuestionsRun(SmolVLM2Run):
    """Trains the text model of `options.start_from` on dialogues of mostly yes/no questions."""

    name = "smolvlm2-questions"
    bfloat16_on_cpu = True

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        super().__init__(size, tiny, batch or (8 if tiny else 16))
        self.lr = SMALL_LR
        self.turns = self.turns_of_images = TURNS
        self.chunk = 16 if tiny else CHUNK
        self.seen = lru_cache(maxsize=1)(self._encode)
        """A chunk of encoded scenes by its number, the same whenever it is asked for."""

    def build(self, device: torch.device) -> None:
        """Make model and renderer; the eyes are not trained."""
        if not self.options.start_from:
            raise ValueError(f"{self.name} continues a trained smolvlm2: give --start-from its checkpoint")
        super().build(device)
        for part in (self.model.model.vision_model, self.model.model.connector):
            part.requires_grad_(False)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return the mean cross-entropy of one batch's answers, and the losses that guide the comparison."""
        rng = np.random.default_rng(self.batch_seed(step))
        seen = self.seen(step // CHUNK_STEPS)
        rows = rng.choice(len(seen.scenes), min(self.batch, len(seen.scenes)), replace=False)
        chat = self.chat(seen.scenes[rows], seen.medium, seen.timing, rng)
        pictures = seen.pictures[torch.from_numpy(rows).to(self.device)]
        with inputs_of(self.model.model.text_model.layers[COMPARING_LAYER]) as inputs:
            logits, read = read_chat(
                self.model, chat.ids, pictures, chat.at_pictures, chat.mask, chat.positions
            )
        loss = answer_loss(logits, chat.labels)
        verdict = self.guide.verdict_loss(read, chat.verdicts)
        compared = self._comparison_loss(inputs[0], chat)
        guided = max(0.0, 1 - self.progress / GUIDED) * (verdict + compared)
        figures = {"loss": loss, "guide": verdict, "compared": compared, "right": self._right(logits, chat)}
        return loss + guided, {name: value.detach() for name, value in figures.items()}

    def talk(self, scene: Scene, rng: np.random.Generator, medium: Medium) -> list[tuple[str, str]]:
        """Return one description, two open questions and many yes/no questions."""
        plain, asked = open_questions(scene, rng, medium), checks(scene, rng, medium)
        while len(asked) < CHECKED:
            asked += checks(scene, rng, medium)
        chosen = [plain[i] for i in rng.permutation(len(plain))[: TURNS - CHECKED - 1]]
        return [description(scene, rng, medium), *chosen, *asked[:CHECKED]]

    @torch.no_grad()
    def _encode(self, number: int) -> Seen:
        seed = derive_seed(self.options.seed, CHUNK_SEEDS + number)
        rng, generator = np.random.default_rng(seed), torch.Generator(self.device).manual_seed(seed)
        medium: Medium = "image" if number % IMAGE_EVERY == IMAGE_EVERY - 1 else "clip"
        timing = self.usual
        if rng.random() * UNUSUAL_EVERY < 1:
            timing = unusual_timing(rng, len(self.usual.places))
        scenes = sample_batch(self.chunk, seed, "train", medium=medium)
        parts = []
        for start in range(0, self.chunk, self.batch):
            pixels = self.pixels(scenes[start : start + self.batch], medium, timing, generator)
            features = image_features(self.model, pixels.flatten(0, 1))[1]
            parts.append(features.unflatten(0, pixels.shape[:2]).flatten(1, 2).float())
        return Seen(scenes, medium, timing, torch.cat(parts))

    def _comparison_loss(self, states: Tensor, chat: Chat) -> Tensor:
        """Return the cross-entropy of the odds that the comparing head looks at the pictures.

        It is asked at the last word of each yes/no question, which names what is asked for.
        """
        asked = chat.verdicts != NOT_ASKED
        last = asked[:, :-1] & (chat.ids[:, 1:] == self.layout.ids("?")[0])
        row, place = last.nonzero(as_tuple=True)
        odds = picture_odds(self.model, states, chat, row, place)
        return functional.binary_cross_entropy_with_logits(odds, chat.verdicts[row, place].float())

    def _right(self, logits: Tensor, chat: Chat) -> Tensor:
        """Return the share of right answers to the yes/no questions."""
        no, yes = (self.layout.ids(f" {word}")[0] for word in ("no", "yes"))
        wanted, scores = chat.labels[:, 1:], logits[:, :-1]
        asked = (wanted == no) | (wanted == yes)
        said = scores[asked][:, yes] > scores[asked][:, no]
        return (said == (wanted[asked] == yes)).float().mean()


@contextmanager
def inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, a list that gets the first argument of each call of `layer`."""
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _layer, arguments: inputs.append(arguments[0]))
    try:
        yield inputs
    finally:
        handle.remove()


def picture_odds(
    model: SmolVLMForConditionalGeneration, states: Tensor, chat: Chat, row: Tensor, place: Tensor
) -> Tensor:
    """Return the log odds `[M]` that the comparing head, at tokens (`row`, `place`), looks at a picture.

    `states` `[B, L, width]` are what its layer is given.
    """
    text = model.model.text_model
    layer = text.layers[COMPARING_LAYER]
    inputs = layer.input_layernorm(states)
    size = layer.self_attn.head_dim
    query, key = (
        part(inputs)[..., COMPARING_HEAD * size :][..., :size][:, None]
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj)
    )
    cosine, sine = text.rotary_emb(inputs, position_ids=chat.positions)
    query, key = apply_rotary_pos_emb(query, key, cosine, sine)
    scores = torch.einsum("md,mld->ml", query[row, 0, place].float(), key[row, 0].float()) / size**0.5
    pictures = torch.zeros(chat.ids.shape[1], dtype=torch.bool, device=states.device)
    pictures[chat.at_pictures] = True
    visible = chat.mask[row, 0, place]
    at, beside = (
        scores.masked_fill(~(visible & part), -torch.inf).logsumexp(-1) for part in (pictures, ~pictures)
    )
    return at - beside
