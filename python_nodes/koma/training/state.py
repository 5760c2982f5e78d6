"""The state of a training run on disk: one safetensors file, replaced atomically, without pickle."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from koma.training.ema import Average


@dataclass(frozen=True)
class Position:
    """Where a run stands: steps done, seconds trained, and the seed that all batches derive from."""

    step: int = 0
    elapsed: float = 0.0
    seed: int = 0


def save_state(
    path: Path,
    position: Position,
    modules: dict[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    average: Average,
) -> None:
    """Write what `load_state` needs to continue exactly; the old file stays until the new one is whole."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in modules.items():
        tensors |= {f"model.{prefix}.{name}": value for name, value in module.state_dict().items()}
    for index, optimizer in enumerate(optimizers):
        for number, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{number}.{key}": value for key, value in entry.items()}
    tensors |= {f"average.{name}": value for name, value in average.mean.items()}
    written = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(written, partial, metadata={"position": json.dumps(asdict(position))})
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)


def load_state(
    path: Path,
    modules: dict[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    average: Average,
) -> Position:
    """Restore what `save_state` wrote; raises RuntimeError or KeyError where it belongs to other modules."""
    with safe_open(path, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    position = read_position(path)
    for prefix, module in modules.items():
        module.load_state_dict(_below(tensors, f"model.{prefix}."))
    for index, optimizer in enumerate(optimizers):
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, f"optimizer.{index}.").items():
            number, key = name.split(".", 1)
            entries.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    for name, value in _below(tensors, "average.").items():
        average.mean[name].copy_(value)
    return position


def read_position(path: Path) -> Position:
    """The position of a stored run, without its tensors."""
    with safe_open(path, framework="pt") as stored:
        return Position(**json.loads(stored.metadata()["position"]))


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
