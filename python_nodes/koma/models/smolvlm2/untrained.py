"""A small SmolVLM2 checkpoint with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koma.models import components as _components  # noqa: F401  (prepares the import of the libraries)


def make(path: Path, side: int = 64, patch: int = 8, shuffle: int = 4, width: int = 48) -> dict[str, Any]:
    """Write the checkpoint into ``path``; returns the defaults of its parameters."""
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
