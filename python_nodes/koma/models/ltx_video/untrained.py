"""A small LTX-Video checkpoint with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koma.models import components as _components  # noqa: F401  (prepares the import of the libraries)


def make(path: Path, width: int = 32, latents: int = 8) -> dict[str, Any]:
    """Write the checkpoint into ``path``; returns the defaults of its parameters."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    tokenizer, text_encoder = _t5(width, max_length=64)
    levels = (8, 16)
    vae = AutoencoderKLLTXVideo(  # 2 halvings and patches of 2: 8 x 8 pixels x 4 frames a token
        latent_channels=latents,
        block_out_channels=levels,
        decoder_block_out_channels=levels,
        down_block_types=("LTXVideoDownBlock3D",) * 2,
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, True),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False, False, False),
        downsample_type=("conv", "conv"),
        upsample_residual=(False, False),
        upsample_factor=(1, 1),
        patch_size=2,
    )
    transformer = LTXVideoTransformer3DModel(
        in_channels=latents,
        out_channels=latents,
        num_attention_heads=2,
        attention_head_dim=32,
        cross_attention_dim=64,
        num_layers=2,
        caption_channels=width,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
    LTXPipeline(scheduler, vae, text_encoder, tokenizer, transformer).save_pretrained(path)
    return {"width": 64, "height": 64, "frames": 17, "fps": 8, "steps": 12}


def _t5(width: int, max_length: int) -> tuple[Any, Any]:
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    letters = [(chr(code), -3.0) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    tokenizer = T5TokenizerFast(
        vocab=pieces, extra_ids=0, additional_special_tokens=[], model_max_length=max_length
    )
    config = T5Config(
        vocab_size=128,
        d_model=width,
        d_kv=16,
        d_ff=2 * width,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=8,
        tie_word_embeddings=False,
    )
    return tokenizer, T5EncoderModel(config)
