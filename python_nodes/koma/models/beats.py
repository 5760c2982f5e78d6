"""Forwards that beat: one that takes long shows that it is alive, and ends early where nobody wants it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from koma.runtime.pulse import beat


def beat_in(model: Any) -> None:
    """Have every forward of ``model`` beat before each of its blocks and convolutions; results do not change.

    Blocks are the members of its outermost lists of modules: the layers of a transformer. The blocks of a
    VAE work on many pixels and take long, so its convolutions beat, too. The longest silence is one of them.
    """
    for module in {*_blocks(model), *_convolutions(model)}:
        module.register_forward_pre_hook(_beat)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from child.children() if isinstance(child, nn.ModuleList) else _blocks(child)


def _convolutions(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))


def _beat(_module: nn.Module, _arguments: Any) -> None:
    beat()
