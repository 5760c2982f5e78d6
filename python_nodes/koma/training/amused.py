"""aMUSEd: masked-token training of `UVit2DModel` and its CLIP text encoder on the tokens of a frozen VQ.

Chang et al., "MaskGIT" (2022); Patil et al., "aMUSEd: an open MUSE reproduction" (2024).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from koma.training.card import amused_card
from koma.training.clip_tokenizer import build_clip_tokenizer
from koma.training.compiling import compiled
from koma.training.export import forget_origins, pipeline_arguments, write_manifest
from koma.training.loop import SMALL, Run
from koma.training.sheets import save_grid
from koma.training.tokens import TokenSource
from koma.training.vq import GRID
from koma.training.world.captions import captions, vocabulary
from koma.training.world.render import Renderer
from koma.training.world.scene import CELLS, sample_batch

TEXT_DROPOUT = 0.1
LABEL_SMOOTHING = 0.01
"""Little: what is smoothed away from the right code is sampled as a wrong one."""
AESTHETIC_SCORE = 6.0
SHEET_SEED = 10**6
SHEET_IMAGES = 18
CHUNK, CHUNK_ON_CPU, REUSE = 32768, 2048, 16
"""Images of a chunk, fewer where encoding is slow, and how often each is used, each time masked anew."""
DEFAULTS = {"steps": 12, "guidance_scale": 1.5, "temperature": 2.0}


@dataclass(frozen=True)
class Widths:
    """Everything that decides the number of parameters."""

    hidden: int = 192
    feed_forward: int = 512
    layers: int = 5
    blocks: int = 160
    block_layers: int = 3
    conditions: int = 32
    text: int = 128
    text_layers: int = 3


FULL = Widths()
SMALL_WIDTHS = Widths(160, 320, 3, 96, 3, 32, 96, 2)
TINY = Widths(32, 64, 2, 32, 1, 8, 32, 2)


def transformer_config(codes: int, widths: Widths) -> dict[str, object]:
    """Arguments of `UVit2DModel` for a 16×16 grid of `codes` codes.

    The grid is halved before the transformer: it has no position embedding, so that a token knows its
    place only through the borders that the 3×3 convolutions see; on 8×8 these reach everywhere.
    """
    return {
        "hidden_size": widths.hidden,
        "intermediate_size": widths.feed_forward,
        "num_hidden_layers": widths.layers,
        "num_attention_heads": max(2, widths.hidden // 64),
        "in_channels": widths.hidden,
        "block_out_channels": widths.blocks,
        "num_res_blocks": widths.block_layers,
        "block_num_heads": max(2, widths.blocks // 32),
        "cond_embed_dim": widths.text,
        "encoder_hidden_size": widths.text,
        "micro_cond_encode_dim": widths.conditions,
        "micro_cond_embed_dim": 5 * widths.conditions,
        "vocab_size": codes + 1,
        "codebook_size": codes,
        "downsample": True,
        "upsample": True,
        "use_bias": False,
        "sample_size": GRID,
    }


def text_config(tokenizer: CLIPTokenizer, widths: Widths) -> CLIPTextConfig:
    """The text encoder's configuration; the pipeline reads its last but one layer and its projection."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=widths.text,
        intermediate_size=4 * widths.text,
        num_hidden_layers=widths.text_layers,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=widths.text,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class AmusedRun(Run):
    """Trains on the VQ that `koma train vq` left in the neighbouring folder `vq/export`."""

    name = "amused"
    exported: ClassVar = {"transformer": "transformer", "text_encoder": "text_encoder"}
    lr = 4e-3
    ema_decay = 0.999
    bfloat16_on_cpu = True
    weight_decay = 0.02

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        self.size, self.small = size, tiny or size <= SMALL
        self.widths = TINY if tiny else SMALL_WIDTHS if self.small else FULL
        self.cells = CELLS if self.small else None
        self.batch = batch or (32 if self.small else 512)
        self.chunk_size, self.reuse = (256, 8) if tiny else (CHUNK, REUSE)

    def build(self, device: torch.device) -> None:
        """Load the VQ; make tokenizer, text encoder, transformer and token source."""
        self.device = device
        if device.type == "cpu":
            self.chunk_size = min(self.chunk_size, CHUNK_ON_CPU)
        start = self.options.start_from
        folder = start / "vqvae" if start else self.options.out.parent / "vq" / "export"
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
        text = text_config(self.tokenizer, self.widths)
        self.text_encoder = CLIPTextModelWithProjection(text).to(device).train()
        self.transformer = UVit2DModel(**transformer_config(codes, self.widths)).to(device).train()
        renderer = Renderer(self.size, device=device)
        self.source = TokenSource(
            self.vqvae, self.tokenizer, renderer, self.chunk_size, self.options.seed, self.cells
        )
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
        call = pipeline_arguments(DEFAULTS)
        images = self.pipeline()(prompts, generator=generator, output_type="pt", **call).images
        save_grid(images, path.with_suffix(".png"), columns=6, captions=prompts)

    def export(self, path: Path) -> None:
        """Write the whole pipeline in float16 with its model card, sample sheet and default parameters."""
        self.text_encoder.eval()
        self.transformer.eval()
        modules = {
            name: deepcopy(module).half()
            for name, module in self.pipeline().components.items()
            if isinstance(module, nn.Module)
        }
        AmusedPipeline(**{**self.pipeline().components, **modules}).save_pretrained(path)
        forget_origins(path)
        (path / "vqvae" / "figures.json").write_text(json.dumps(self.figures, indent=1) + "\n")
        write_manifest(path, self.size, DEFAULTS)
        self.sheet(path / "samples")
        counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
        (path / "README.md").write_text(
            amused_card(self.size, self.cells, counts, self.figures, self.result, DEFAULTS)
        )


def random_mask(ids: Tensor, generator: torch.Generator) -> Tensor:
    """Mask like `ids` [B, H, W]: of each row a share cos(u·π/2), u uniform in [0, 1), at least one token."""
    count = ids[0].numel()
    u = torch.rand(len(ids), 1, generator=generator, device=ids.device)
    masked = (torch.cos(u * math.pi / 2) * count).ceil().clamp(min=1)
    order = torch.rand(len(ids), count, generator=generator, device=ids.device).argsort(1).argsort(1)
    return (order < masked).view_as(ids)
