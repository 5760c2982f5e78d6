"""The parts of the small LTX-Video: autoencoder, transformer, text encoder, tokenizer, scheduler, untrained.

All are the stock classes. A clip of 17 frames of 128 × 128 px becomes 5 × 8 × 8 latent vectors: the
autoencoder reduces 16-fold in space and 4-fold in time; its first latent frame holds frame 0 alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from koma.training.loop import SMALL
from koma.training.world.captions import vocabulary

FPS = 8
"""Frame rate of the world's clips; what the pipelines must be given as `frame_rate` (their default is 25)."""
FRAMES = 17
TEXT_TOKENS = 32
"""Tokens of a prompt, `max_sequence_length` of the pipelines (their default, 128, gives nearly the same)."""
SHIFT = 3.0
"""Shift of the noise schedule σ' = shift·σ / (1 + (shift − 1)·σ); fixed: every LTX pipeline accepts that."""
SPATIAL_RATIO = 16
TEMPORAL_RATIO = 4
SPECIAL_PIECES = ("<pad>", "</s>", "<unk>")


@dataclass(frozen=True)
class Widths:
    """Everything that decides the number of parameters."""

    latent_channels: int = 24
    encoder: tuple[int, int, int] = (48, 96, 96)
    decoder: tuple[int, int] = (64, 96)
    heads: int = 8
    head_dim: int = 32
    layers: int = 6
    text: int = 192
    text_layers: int = 2


FULL = Widths()
SMALL_WIDTHS = Widths(48, (32, 64, 128), (32, 64), 6, 32, 4, 96, 2)
TINY = Widths(8, (32, 32, 32), (32, 32), 2, 32, 2, 32, 1)


def widths_for(size: int, tiny: bool) -> Widths:
    """The widths for clips of `size` px; up to `SMALL` those that two cores can train."""
    return TINY if tiny else SMALL_WIDTHS if size <= SMALL else FULL


def make_vae(widths: Widths) -> AutoencoderKLLTXVideo:
    """The causal video autoencoder, 0.9.5 layout (residual resampling), causal on both sides.

    With a causal decoder the first frame of a decoded clip depends on the first latent frame alone.
    """
    return AutoencoderKLLTXVideo(
        latent_channels=widths.latent_channels,
        block_out_channels=widths.encoder,
        down_block_types=("LTXVideo095DownBlock3D",) * 2,
        layers_per_block=(1, 1, 1),
        downsample_type=("spatiotemporal",) * 2,
        spatio_temporal_scaling=(True, True),
        decoder_block_out_channels=widths.decoder,
        decoder_layers_per_block=(1, 1, 1),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False,) * 3,
        upsample_residual=(True, True),
        upsample_factor=(1, 2),
        patch_size=4,
        encoder_causal=True,
        decoder_causal=True,
        spatial_compression_ratio=SPATIAL_RATIO,
        temporal_compression_ratio=TEMPORAL_RATIO,
    )


def make_transformer(widths: Widths) -> LTXVideoTransformer3DModel:
    """The denoiser. Its branches start closed (zero output projections): depth costs nothing at the start."""
    width = widths.heads * widths.head_dim
    model = LTXVideoTransformer3DModel(
        in_channels=widths.latent_channels,
        out_channels=widths.latent_channels,
        num_attention_heads=widths.heads,
        attention_head_dim=widths.head_dim,
        cross_attention_dim=width,
        num_layers=widths.layers,
        caption_channels=widths.text,
    )
    for block in model.transformer_blocks:
        for output in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
            nn.init.zeros_(output.weight)
        with torch.no_grad():
            block.scale_shift_table[[2, 5]] += 1.0
    nn.init.zeros_(model.proj_out.weight)
    nn.init.normal_(model.time_embed.linear.weight, std=0.02)
    return model


def make_tokenizer() -> T5TokenizerFast:
    """One token for each word of the grammar, in lower, Capitalised and UPPER case; characters otherwise."""
    words = sorted({form for word in vocabulary() for form in (word, word.capitalize(), word.upper())})
    pieces = [(piece, 0.0) for piece in SPECIAL_PIECES]
    pieces += [("▁" + word, -1.0) for word in words] + [("▁", -6.0)]
    pieces += [(chr(code), -8.0) for code in (*range(33, 127), *range(0xC0, 0x100))]
    return T5TokenizerFast(
        vocab=pieces, extra_ids=0, additional_special_tokens=[], model_max_length=TEXT_TOKENS
    )


def make_text_encoder(widths: Widths, tokenizer: T5TokenizerFast) -> T5EncoderModel:
    """The text encoder. Characters start at zero: what the grammar does not know is read as silence."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=widths.text,
        d_kv=widths.text // 4,
        d_ff=2 * widths.text,
        num_layers=widths.text_layers,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
    )
    model = T5EncoderModel(config)
    with torch.no_grad():
        for piece, index in tokenizer.get_vocab().items():
            if piece == "<unk>" or (len(piece) == 1 and piece != ","):
                model.shared.weight[index] = 0
    return model


@torch.no_grad()
def share_cases(text_encoder: T5EncoderModel, tokenizer: T5TokenizerFast) -> None:
    """Give the Capitalised and UPPER forms the embedding of the lower-case word, which alone was trained."""
    vocab = tokenizer.get_vocab()
    table = text_encoder.shared.weight
    for piece, index in vocab.items():
        if piece.startswith("▁") and piece.lower() in vocab:
            table[index] = table[vocab[piece.lower()]]


def node_defaults(size: int, frames: int) -> dict[str, Any]:
    """Default parameters of a model node with a checkpoint made for `frames` frames of `size` × `size` px."""
    return {
        "height": size,
        "width": size,
        "frames": frames,
        "fps": FPS,
        "steps": 30,
        "guidance_scale": 3.0,
    }


def make_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Rectified-flow Euler steps with a fixed shift."""
    return FlowMatchEulerDiscreteScheduler(shift=SHIFT, use_dynamic_shifting=False)


def make_pipeline(
    vae: AutoencoderKLLTXVideo,
    transformer: LTXVideoTransformer3DModel,
    text_encoder: T5EncoderModel,
    tokenizer: T5TokenizerFast,
) -> LTXPipeline:
    """The stock pipeline around the parts."""
    return LTXPipeline(
        scheduler=make_scheduler(),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )


def video_coordinates(frames: int, height: int, width: int, device: torch.device) -> Tensor:
    """Seconds and pixels of each latent token, [1, 3, frames·height·width], as in the pipelines at `FPS`."""
    steps = (TEMPORAL_RATIO / FPS, SPATIAL_RATIO, SPATIAL_RATIO)
    sizes = (frames, height, width)
    axes = [
        torch.arange(size, dtype=torch.float32, device=device) * step
        for size, step in zip(sizes, steps, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)[None]


def to_pixels(clips: Tensor) -> Tensor:
    """uint8 clips [B, F, 3, H, W] as the autoencoder takes them: float in [−1, 1], [B, 3, F, H, W].

    On a GPU the channels lie innermost, as its convolutions like it.
    """
    layout = torch.channels_last_3d if clips.is_cuda else torch.contiguous_format
    return (clips.transpose(1, 2).float() / 127.5 - 1).contiguous(memory_format=layout)


def to_clips(pixels: Tensor) -> Tensor:
    """The way back: pixels [B, 3, F, H, W] in [−1, 1] as clips [B, F, 3, H, W] in [0, 1]."""
    return pixels.transpose(1, 2).float().add(1).div(2).clamp(0, 1)
