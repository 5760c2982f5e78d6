"""Token data for aMUSEd: rendered images encoded by the frozen VQ in chunks, each used for many steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import VQModel
from torch import Tensor
from transformers import CLIPTokenizer

from koma.training.composition import Composition
from koma.training.loop import derive_seed
from koma.training.vq import encode_tokens
from koma.training.world.captions import captions
from koma.training.world.render import Renderer
from koma.training.world.scene import STRIDE, SceneBatch, Split, arranged, sample_batch

ENCODE_BATCH = 256


@dataclass(frozen=True)
class TokenChunk:
    """`ids` int16 [N, H, W] and the tokenized captions `text` int16 [N, L] of the same N images."""

    ids: Tensor
    text: Tensor


class TokenSource:
    """Chunks of `size` images; a chunk follows from its number, so that a resumed run sees the same.

    With `cells` scenes are arranged on a grid of so many cells on a side, see `arranged`, and laid together
    from the tokens of their parts, see `Composition`.
    """

    def __init__(
        self,
        vqvae: VQModel,
        tokenizer: CLIPTokenizer,
        renderer: Renderer,
        size: int,
        seed: int,
        cells: int | None = None,
    ) -> None:
        self.vqvae, self.tokenizer, self.renderer = vqvae, tokenizer, renderer
        self.size, self.seed, self.cells = size, seed, cells
        self.composition = Composition(renderer, cells) if cells else None
        self._number, self._chunk = -1, TokenChunk(torch.empty(0), torch.empty(0))

    def chunk(self, number: int) -> TokenChunk:
        """Chunk `number` of the training split; the latest one is kept."""
        if number != self._number:
            self._chunk = self.make(self.size, derive_seed(self.seed, -2 - number), "train")
            self._number = number
        return self._chunk

    def make(self, count: int, seed: int, split: Split) -> TokenChunk:
        """Render, encode and caption `count` images."""
        scenes = sample_batch(count, seed, split=split, medium="image")
        scenes = arranged(scenes, self.cells, STRIDE) if self.cells else scenes
        parts = [self.ids(scenes[start : start + ENCODE_BATCH]) for start in range(0, count, ENCODE_BATCH)]
        texts = captions(scenes, np.random.default_rng(seed), "image")
        return TokenChunk(torch.cat(parts), self.tokenize(texts).to(torch.int16).to(self.renderer.device))

    @torch.no_grad()
    def ids(self, scenes: SceneBatch) -> Tensor:
        """Token ids int16 [N, H, W] of scenes."""
        if self.composition:
            return self.composition.compose(scenes, self._encode)[:, 0]
        return self._encode(self.renderer.images(scenes).float() / 255)[:, 0]

    def _encode(self, images: Tensor) -> Tensor:
        """Token ids int16 [N, 1, H, W] of images [N, 3, S, S] in [0, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            return encode_tokens(self.vqvae, images).to(torch.int16)[:, None]

    def tokenize(self, texts: list[str]) -> Tensor:
        """Token ids [N, L] as AmusedPipeline makes them: padded to the tokenizer's full length."""
        length = self.tokenizer.model_max_length
        encoded = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length)
        return torch.tensor(encoded.input_ids)
