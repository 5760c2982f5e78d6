"""Untrained small checkpoints of the real classes: every part of the serving path works, the results are
noise.

The sizes follow the trained ``emoji`` checkpoints roughly; weights are random from a fixed seed, so that
the same version of the libraries makes the same checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from koma.errors import KomaError
from koma.models import components as _components  # noqa: F401  (prepares the import of the libraries)
from koma.models.manifest import FILE

NOTICE = "untrained weights: the results are noise"
_VERSION = "1"
"""Part of the folder name; raise it when a recipe below changes."""
_SEED = 20240229


def folder(family: str) -> Path:
    """Return the folder of the untrained checkpoint of ``family``, built on first use in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "koma" / "untrained"
    return build(family, cache / f"{family}-{_VERSION}")


def build(family: str, target: Path) -> Path:
    """Build the untrained checkpoint of ``family`` at ``target`` unless it is there.

    It appears whole or not at all: several model nodes may build it at the same time.
    """
    if family not in _BUILDERS:
        raise KomaError(
            "load_failed", f"no untrained checkpoint for {family!r}", field="checkpoint", value=family
        )
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        draft = Path(work) / "checkpoint"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            defaults = _BUILDERS[family](draft)
        (draft / FILE).write_text(json.dumps({"notice": NOTICE, "defaults": defaults}, indent=2) + "\n")
        try:
            os.rename(draft, target)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # another process was faster
    return target


def _amused(
    path: Path, side: int = 64, codes: int = 256, width: int = 64, levels: tuple[int, ...] = (16, 32, 32)
) -> dict[str, Any]:
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


def _ltx_video(path: Path, width: int = 32, latents: int = 8) -> dict[str, Any]:
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


def _smolvlm2(
    path: Path, side: int = 64, patch: int = 8, shuffle: int = 4, width: int = 48
) -> dict[str, Any]:
    from transformers import GenerationConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

    tokenizer = _smolvlm_tokenizer()
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 2048,
        "rope_theta": 1e5,
        "rms_norm_eps": 1e-5,
        **ends,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
    }
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    model = SmolVLMForConditionalGeneration(
        SmolVLMConfig(
            image_token_id=image_token,
            scale_factor=shuffle,
            tie_word_embeddings=False,
            text_config=text,
            vision_config=vision,
        )
    )
    for parameter in model.parameters():  # wide enough that the answer depends on what the picture shows
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.35)
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(path)
    _smolvlm_processor(tokenizer, side, (side // patch) ** 2 // shuffle**2).save_pretrained(path)
    return {"max_new_tokens": 32}


def _smolvlm_tokenizer() -> Any:
    """A byte-level tokenizer with the special tokens of the real one; no merges, since nothing was learnt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    named = ["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>"]
    pieces = [*special, *named, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_level = Tokenizer(
        models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])
    )
    bytes_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_level.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_level,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        padding_side="left",
        model_max_length=2048,
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def _smolvlm_processor(tokenizer: Any, side: int, tokens: int) -> Any:
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor
    from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

    common = {"max_image_size": {"longest_edge": side}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    sampling = {"fps": 1, "max_frames": 8, "video_size": {"longest_edge": side}}
    images = SmolVLMImageProcessor(size={"longest_edge": side}, **common)
    videos = SmolVLMVideoProcessor(video_sampling=sampling, do_sample_frames=False, **common)
    return SmolVLMProcessor(
        images, tokenizer, videos, image_seq_len=tokens, chat_template=DEFAULT_CHAT_TEMPLATE
    )


_BUILDERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "amused": _amused,
    "ltx_video": _ltx_video,
    "smolvlm2": _smolvlm2,
}
