"""What the released checkpoints would take, computed from their configurations: no weights are at hand.

The configurations are those of ``tests/models/configs``; the counts of parameters there are held to the
classes by ``tests/models/test_full_size.py``.
"""

from __future__ import annotations

import json

from koma.bench.finding import Table
from koma.cli.server_process import home

_GIB = 1 << 30
_KEY_AND_VALUE, _BFLOAT16, _FLOAT32 = 2, 2, 4
NODES = {
    "smolvlm2-256m": ("smolvlm2-256m (untied)",),
    "amused-256": ("amused-256 UVit2D", "amused VQModel", "amused CLIP text (12 layers)"),
    "ltx-video 2b 0.9.5": ("ltx 2B transformer", "ltx vae 0.9.5", "t5-v1_1-xxl encoder"),
    "ltx-video 13b 0.9.5": ("ltx 13B transformer", "ltx vae 0.9.5", "t5-v1_1-xxl encoder"),
}


def measure() -> Table:
    """Weights of each model node, and what a request keeps between two steps."""
    folder = home() / "tests" / "models" / "configs"
    counts: dict[str, int] = json.loads((folder / "param_counts.json").read_text())
    kept = {
        "smolvlm2-256m": _cache(json.loads((folder / "smolvlm2-256m" / "config.json").read_text())),
        "amused-256": f"{16 * 16 * 8 / 1024:.0f} KiB of tokens (256 × 256 px)",
        "ltx-video 2b 0.9.5": _latents(),
        "ltx-video 13b 0.9.5": _latents(),
    }
    rows = []
    for name, parts in NODES.items():
        parameters = sum(counts[part] for part in parts)
        weights = (f"{parameters * size / _GIB:.2f}" for size in (_BFLOAT16, _FLOAT32))
        rows.append([name, f"{parameters / 1e6:.0f}", *weights, kept[name]])
    head = [
        "checkpoint",
        "million parameters",
        "GiB in bfloat16",
        "GiB in float32",
        "kept per request in flight",
    ]
    return Table("Released checkpoints (computed from their configurations, not run)", head, rows)


def _cache(config: dict[str, dict[str, int]]) -> str:
    """Keys and values of one token of SmolVLM2 in bfloat16, and of a prompt with eight frames."""
    text = config["text_config"]
    heads = text.get("num_key_value_heads", text["num_attention_heads"])
    size = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    token = _KEY_AND_VALUE * _BFLOAT16 * text["num_hidden_layers"] * heads * size
    return f"{token / 1024:.1f} KiB per token, {token * (8 * 64 + 200) / 2**20:.0f} MiB with 8 frames"


def _latents() -> str:
    """Latents and the last guess in float32 of the default video: 704 × 512 px, 161 frames, 128 channels."""
    positions = ((161 - 1) // 8 + 1) * (512 // 32) * (704 // 32)
    return f"{2 * positions * 128 * _FLOAT32 / 2**20:.0f} MiB of latents (704 × 512 px, 161 frames)"
