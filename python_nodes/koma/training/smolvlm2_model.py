"""The small SmolVLM2: configuration, processor and the fast forward pass that training uses."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from koma.training.loop import SMALL

MAX_FRAMES = 16
MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; `image_tokens` is what one frame costs in the text model.

    The processor takes `fps` frames of a second of a clip: 8 of a clip with 17 frames at 8 a second.
    """

    image_size: int = 128
    patch: int = 8
    scale: int = 4
    vision_width: int = 192
    vision_layers: int = 6
    width: int = 256
    layers: int = 6
    fps: int = 4

    @property
    def image_tokens(self) -> int:
        """Tokens per frame."""
        return (self.image_size // self.patch) ** 2 // self.scale**2


def usual(size: int) -> Shape:
    """Return the sizes for pictures of `size` px; up to 64 px those that two cores can train."""
    return Shape(size) if size > SMALL else Shape(size, 8, 4, 128, 4, width=128, layers=4, fps=2)


def tiny(size: int) -> Shape:
    """Return sizes for tests."""
    return Shape(size, 8, 2, vision_width=64, vision_layers=2, width=64, layers=2)


def build_model(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> SmolVLMForConditionalGeneration:
    """Make the untrained model."""
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text = {
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": 3 * shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.width // 32,
        "num_key_value_heads": shape.width // 64,
        "head_dim": 32,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 2048,
        "rope_theta": 1e4,
        "rms_norm_eps": 1e-5,
        **ids,
    }
    vision = {
        "hidden_size": shape.vision_width,
        "intermediate_size": 4 * shape.vision_width,
        "num_hidden_layers": shape.vision_layers,
        "num_attention_heads": shape.vision_width // 32,
        "image_size": shape.image_size,
        "patch_size": shape.patch,
    }
    config = SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=shape.scale,
        tie_word_embeddings=False,
        text_config=text,
        vision_config=vision,
    )
    model = SmolVLMForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    model.generation_config = GenerationConfig(max_new_tokens=MAX_NEW_TOKENS, do_sample=False, **ids)
    return model


def image_features(model: SmolVLMForConditionalGeneration, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Encode whole pictures `[N, 3, S, S]` to patches `[N, P, vision_width]` and `[N, image_tokens, width]`.

    Same values as `get_image_features`, without its search for padding pictures, which waits for the device.
    """
    vision = model.model.vision_model
    grid = pixels.shape[-1] // model.config.vision_config.patch_size
    whole = torch.ones(len(pixels), grid, grid, dtype=torch.bool, device=pixels.device)
    hidden = vision.embeddings(pixel_values=pixels, patch_attention_mask=whole)
    hidden = vision.encoder(inputs_embeds=hidden, attention_mask=None).last_hidden_state
    patches = vision.post_layernorm(hidden)
    return patches, model.model.connector(patches)


def answer_logits(
    model: SmolVLMForConditionalGeneration,
    ids: Tensor,
    pixels: Tensor,
    at_pictures: Tensor,
    mask: Tensor,
    positions: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `read_chat` does, and what `image_features` makes of all frames, row after row.

    `pixels` `[B, frames, 3, S, S]` normalised; the others are those of `read_chat`.
    """
    patches, features = image_features(model, pixels.flatten(0, 1))
    pictures = features.reshape(len(ids), len(at_pictures), -1)
    return *read_chat(model, ids, pictures, at_pictures, mask, positions), patches, features


def read_chat(
    model: SmolVLMForConditionalGeneration,
    ids: Tensor,
    pictures: Tensor,
    at_pictures: Tensor,
    mask: Tensor,
    positions: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return logits `[B, L, vocab]` and last states `[B, L, width]` of chats `ids` `[B, L]`.

    `pictures` `[B, frames·tokens, width]` are the connector's tokens of all frames, which stand at
    `at_pictures`; `mask` bool `[B, 1, L, L]`; `positions` int64 `[B, L]`.
    """
    embeds = model.model.text_model.embed_tokens(ids)
    embeds = embeds.to(pictures.dtype).index_copy(1, at_pictures, pictures)
    hidden = model.model.text_model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    return model.lm_head(hidden), hidden


def save_checkpoint(
    model: SmolVLMForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, path: Path, fps: int
) -> None:
    """Write weights in float16 and everything that `AutoProcessor` needs.

    The configuration says float32, so that loading without a dtype gives what every processor computes well.
    """
    deepcopy(model).half().save_pretrained(path)
    config_file = path / "config.json"
    config = json.loads(config_file.read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        part.pop("torch_dtype", None)
        part["dtype"] = "float32"
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    build_processor(model, tokenizer, fps).save_pretrained(path)


def build_processor(
    model: SmolVLMForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, fps: int
) -> Any:
    """Make the processor: one tile per picture, `fps` frames of a second of a clip. Needs num2words."""
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor
    from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

    size = model.config.vision_config.image_size
    pixels = {"max_image_size": {"longest_edge": size}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    images = SmolVLMImageProcessor(size={"longest_edge": size}, do_image_splitting=False, **pixels)
    sampling = {"fps": fps, "max_frames": MAX_FRAMES, "video_size": {"longest_edge": size}}
    videos = SmolVLMVideoProcessor(do_sample_frames=True, video_sampling=sampling, **pixels)
    length = (size // model.config.vision_config.patch_size) ** 2 // model.config.scale_factor**2
    return SmolVLMProcessor(
        images, tokenizer, videos, image_seq_len=length, chat_template=DEFAULT_CHAT_TEMPLATE
    )
