"""aMUSEd: masked-token training of `UVit2DModel` and its CLIP text encoder on the tokens of a frozen VQ.

Chang et al., "MaskGIT" (2022); Patil et al., "aMUSEd: an open MUSE reproduction" (2024).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from koma.training.card import amused_card
from koma.training.clip_tokenizer import build_clip_tokenizer
from koma.training.compiling import compiled
from koma.training.loop import Run
from koma.training.sheets import save_grid
from koma.training.tokens import TokenSource
from koma.training.vq import GRID
from koma.training.world.captions import captions, vocabulary
from koma.training.world.render import Renderer
from koma.training.world.scene import sample_batch

TEXT_WIDTH, TINY_TEXT_WIDTH = 128, 32
TEXT_DROPOUT = 0.1
LABEL_SMOOTHING = 0.01
"""Little: what is smoothed away from the right code is sampled as a wrong one."""
AESTHETIC_SCORE = 6.0
SHEET_SEED = 10**6
SHEET_IMAGES = 18
CHUNK, CHUNK_ON_CPU, REUSE = 32768, 2048, 16
"""Images of a chunk, fewer where encoding is slow, and how often each is used, each time masked anew."""
DEFAULTS = {"num_inference_steps": 12, "guidance_scale": 3.0, "temperature": [2, 0]}


def transformer_config(codes: int, tiny: bool) -> dict[str, object]:
    """Arguments of `UVit2DModel` for a 16×16 grid of `codes` codes.

    The grid is halved before the transformer: it has no position embedding, so that a token knows its
    place only through the borders that the 3×3 convolutions see; on 8×8 these reach everywhere.
    """
    hidden, blocks, text = (32, 32, TINY_TEXT_WIDTH) if tiny else (192, 160, TEXT_WIDTH)
    return {
        "hidden_size": hidden,
        "intermediate_size": 64 if tiny else 512,
        "num_hidden_layers": 2 if tiny else 5,
        "num_attention_heads": 2 if tiny else 3,
        "in_channels": hidden,
        "block_out_channels": blocks,
        "num_res_blocks": 1 if tiny else 3,
        "block_num_heads": 2 if tiny else 5,
        "cond_embed_dim": text,
        "encoder_hidden_size": text,
        "micro_cond_encode_dim": 8 if tiny else 32,
        "micro_cond_embed_dim": 40 if tiny else 160,
        "vocab_size": codes + 1,
        "codebook_size": codes,
        "downsample": True,
        "upsample": True,
        "use_bias": False,
        "sample_size": GRID,
    }


def text_config(tokenizer: CLIPTokenizer, tiny: bool) -> CLIPTextConfig:
    """The text encoder's configuration; the pipeline reads its last but one layer and its projection."""
    hidden = TINY_TEXT_WIDTH if tiny else TEXT_WIDTH
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden if tiny else 4 * hidden,
        num_hidden_layers=2 if tiny else 3,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=hidden,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class AmusedRun(Run):
    """Trains on the VQ that `koma train vq` left in the neighbouring folder `vq/export`."""

    name = "amused"
    lr = 4e-3
    ema_decay = 0.999
    weight_decay = 0.02

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        self.size, self.tiny = size, tiny
        self.batch = batch or (32 if tiny else 512)
        self.chunk_size, self.reuse = (256, 8) if tiny else (CHUNK, REUSE)

    def build(self, device: torch.device) -> None:
        """Load the VQ; make tokenizer, text encoder, transformer and token source."""
        self.device = device
        if device.type == "cpu":
            self.chunk_size = min(self.chunk_size, CHUNK_ON_CPU)
        folder = self.options.out.parent / "vq" / "export"
        if not folder.exists():
            raise FileNotFoundError(f"no VQ at {folder}: first run `koma train vq` with an --out beside it")
        self.vqvae = VQModel.from_pretrained(folder).eval().requires_grad_(False).to(device)
        self.figures: dict[str, float] = json.loads((folder / "figures.json").read_text())
        trained_size = self.vqvae.config.sample_size
        if trained_size != self.size:
            raise ValueError(f"size is {self.size} but the VQ at {folder} was trained with {trained_size}")
        codes = self.vqvae.config.num_vq_embeddings
        self.mask_id = codes
        self.tokenizer = build_clip_tokenizer(vocabulary())
        text = text_config(self.tokenizer, self.tiny)
        self.text_encoder = CLIPTextModelWithProjection(text).to(device).train()
        self.transformer = UVit2DModel(**transformer_config(codes, self.tiny)).to(device).train()
        renderer = Renderer(self.size, device=device)
        self.source = TokenSource(self.vqvae, self.tokenizer, renderer, self.chunk_size, self.options.seed)
        self.null_text = self.source.tokenize([""]).to(device)
        self.predict = compiled(self._predict, "amused", self.options.compile and device.type == "cuda")

    def modules(self) -> dict[str, nn.Module]:
        """The transformer and the text encoder; the VQ is frozen."""
        return {"transformer": self.transformer, "text_encoder": self.text_encoder}

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Cross-entropy on the masked tokens of a batch out of the current chunk."""
        chunk = self.source.chunk(step * self.batch // (self.chunk_size * self.reuse))
        rows = torch.randint(self.chunk_size, (self.batch,), generator=generator, device=self.device)
        ids, text = chunk.ids[rows].long(), chunk.text[rows].long()
        dropped = torch.rand(self.batch, 1, generator=generator, device=self.device) < TEXT_DROPOUT
        masked = random_mask(ids, generator)
        text = torch.where(dropped, self.null_text, text)
        # outside the compiled part: collecting hidden states uses hooks that break the graph
        encoded = self.text_encoder(text, output_hidden_states=True, return_dict=True)
        loss, right = self.predict(ids, masked, encoded.hidden_states[-2], encoded.text_embeds)
        return loss, {"right": right.detach()}

    def _predict(self, ids: Tensor, masked: Tensor, words: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.transformer(
            torch.where(masked, self.mask_id, ids),
            encoder_hidden_states=words,
            pooled_text_emb=pooled,
            micro_conds=self.micro_conditions(len(ids)),
        ).float()
        share = masked / masked.sum()
        losses = functional.cross_entropy(logits, ids, reduction="none", label_smoothing=LABEL_SMOOTHING)
        return (losses * share).sum(), ((logits.argmax(1) == ids) * share).sum()

    def micro_conditions(self, count: int) -> Tensor:
        """Original size, crop corner and aesthetic score [count, 5], as AmusedPipeline passes them."""
        values = [self.size, self.size, 0.0, 0.0, AESTHETIC_SCORE]
        return torch.tensor(values, device=self.device).expand(count, -1)

    def pipeline(self) -> AmusedPipeline:
        """The stock pipeline over the modules as they are."""
        pipeline = AmusedPipeline(
            vqvae=self.vqvae,
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder,
            transformer=self.transformer,
            scheduler=AmusedScheduler(mask_token_id=self.mask_id),
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def sheet(self, path: Path) -> None:
        """Images that the stock pipeline makes of captions of held-out combinations."""
        scenes = sample_batch(SHEET_IMAGES, SHEET_SEED, split="heldout", medium="image")
        prompts = captions(scenes, np.random.default_rng(SHEET_SEED), "image")
        generator = torch.Generator(self.device).manual_seed(SHEET_SEED)
        images = self.pipeline()(prompts, generator=generator, output_type="pt", **DEFAULTS).images
        save_grid(images, path.with_suffix(".png"), columns=6, captions=prompts)

    def export(self, path: Path) -> None:
        """Write the whole pipeline in float16 with its model card, sample sheet and default parameters."""
        self.text_encoder.eval()
        self.transformer.eval()
        modules = {name: deepcopy(module).half() for name, module in self.pipeline().components.items()
                   if isinstance(module, nn.Module)}
        AmusedPipeline(**{**self.pipeline().components, **modules}).save_pretrained(path)
        (path / "defaults.json").write_text(json.dumps(DEFAULTS, indent=1) + "\n")
        self.sheet(path / "samples")
        counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
        (path / "README.md").write_text(amused_card(self.size, counts, self.figures, self.result, DEFAULTS))


def random_mask(ids: Tensor, generator: torch.Generator) -> Tensor:
    """Mask like `ids` [B, H, W]: of each row a share cos(u·π/2), u uniform in [0, 1), at least one token."""
    count = ids[0].numel()
    u = torch.rand(len(ids), 1, generator=generator, device=ids.device)
    masked = (torch.cos(u * math.pi / 2) * count).ceil().clamp(min=1)
    order = torch.rand(len(ids), count, generator=generator, device=ids.device).argsort(1).argsort(1)
    return (order < masked).view_as(ids)
