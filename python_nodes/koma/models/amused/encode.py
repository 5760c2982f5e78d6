"""Prompt -> embeddings, request -> state."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from koma.models import prompts
from koma.models.amused.parts import Parts
from koma.models.amused.schedule import Schedule, make_schedule
from koma.models.lru import Lru
from koma.models.seeds import row_seeds, seed_of
from koma.runtime.pulse import beat
from koma.runtime.runner import Request, State
from koma.runtime.turns import Turns

MICRO_SCORE = 6
"""The aesthetic score that the checkpoints were conditioned on (SDXL's micro-conditioning,
arXiv:2307.01952, 2.2)."""


@dataclass(frozen=True)
class Text:
    """An encoded prompt."""

    pooled: torch.Tensor
    """[1, projection]"""
    hidden: torch.Tensor
    """[1, text tokens, width], of the last but one layer"""


@dataclass(kw_only=True)
class ImageState(State):
    """A job of ``n`` images: ``n`` rows of a forward, or ``2 n`` with guidance."""

    text: Text
    null: Text | None
    """The negative prompt; None where guidance is off."""
    guidance: float
    micro: torch.Tensor
    """[1, 5]: width, height, crop (0, 0), aesthetic score"""
    schedule: Schedule
    generators: list[torch.Generator]
    """One per image, on the device of the model."""
    seed: int
    tokens: torch.Tensor
    """[n, height, width] of token ids; unknown ones have the mask id"""
    guess: torch.Tensor | None = None
    """[n, height, width]: the model's guess of all tokens after the last step"""


class Encoder:
    """Encodes prompts with CLIP; the last ones stay in memory, the empty one among them."""

    def __init__(self, parts: Parts, kept: int = 64) -> None:
        self._parts = parts
        self.counter = prompts.Counter(parts.tokenizer, parts.tokenizer.model_max_length)
        self._texts: Lru[Text] = Lru(kept)
        self._turns = Turns()
        """Whose turn it is to encode: as many threads prepare as there are long preparations"""

    def text(self, prompt: str) -> Text:
        """Encode ``prompt``, cut at the tokenizer's length, which ``count`` tells. Padding is attended to, as
        the checkpoints expect.

        A longer prompt is not read in several chunks: the image model was trained on one, and the stock
        pipeline reads one.
        """
        return self._texts.get(prompt, lambda: self._encoded(prompt))

    def _encoded(self, prompt: str) -> Text:
        with self._turns.turn():
            return self._encode(prompt)

    @torch.inference_mode()
    def _encode(self, prompt: str) -> Text:
        tokenizer = self._parts.tokenizer
        ids = tokenizer(
            [prompt],
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
        ).input_ids
        output = self._parts.text_encoder(ids.to(self._parts.device), output_hidden_states=True)
        return Text(output.text_embeds, output.hidden_states[-2])


@torch.inference_mode()
def start(request: Request, parts: Parts, encoder: Encoder) -> ImageState:
    """Make the state of a new job: everything masked, one generator per image."""
    beat()
    params, device = request.params, parts.device
    seed = seed_of(params)
    text = encoder.text(params.prompt)
    side = parts.token_side
    grid = (params.n, params.height // side, params.width // side)
    tokens = torch.full(grid, parts.mask_id, dtype=torch.long, device=device)
    micro = [params.width, params.height, 0, 0, MICRO_SCORE]
    return ImageState(
        request=request,
        total=params.steps,
        prompts=encoder.counter.told(prompts.given(params)),
        text=text,
        null=encoder.text(params.negative_prompt) if params.guidance_scale > 1 else None,
        guidance=params.guidance_scale,
        micro=torch.tensor([micro], device=device, dtype=text.hidden.dtype),
        schedule=make_schedule(parts.scheduler, params.steps, params.temperature, tokens[0].numel(), device),
        generators=[torch.Generator(device).manual_seed(one) for one in row_seeds(seed, params.n)],
        seed=seed,
        tokens=tokens,
    )
