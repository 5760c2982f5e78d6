"""A small aMUSEd checkpoint with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koma.models import components as _components  # noqa: F401  (prepares the import of the libraries)


def make(
    path: Path, side: int = 64, codes: int = 256, width: int = 64, levels: tuple[int, ...] = (16, 32, 32)
) -> dict[str, Any]:
    """Write the checkpoint into ``path``; returns the defaults of its parameters."""
    from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel

    depth = len(levels)
    tokenizer, text_encoder = _clip(width, max_length=24)
    vqvae = VQModel(
        block_out_channels=levels,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        layers_per_block=1,
        latent_channels=8,
        num_vq_embeddings=codes,
        norm_num_groups=8,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
        force_upcast=True,
        sample_size=side,
    )
    transformer = UVit2DModel(
        hidden_size=width,
        cond_embed_dim=width,
        encoder_hidden_size=width,
        micro_cond_encode_dim=8,
        micro_cond_embed_dim=40,
        vocab_size=codes + 1,
        codebook_size=codes,
        in_channels=width,
        block_out_channels=width,
        num_res_blocks=1,
        block_num_heads=2,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * width,
        sample_size=side // 2 ** (depth - 1),
        use_bias=False,
    )
    scheduler = AmusedScheduler(mask_token_id=codes)
    AmusedPipeline(vqvae, tokenizer, text_encoder, transformer, scheduler).save_pretrained(path)
    return {"guidance_scale": 4.0}


def _clip(width: int, max_length: int) -> tuple[Any, Any]:
    """A byte-level CLIP tokenizer and text encoder. The end token has the highest id, as in the real one."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=max_length,
        projection_dim=width,
        hidden_act="gelu",
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=max_length)
    return tokenizer, CLIPTextModelWithProjection(config)
