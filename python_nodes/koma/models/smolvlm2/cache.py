"""Keys and values of the rows in flight: one padded block of memory per batch.

Every state owns a row of some block. A forward wants its rows to be exactly those of one block; where they
are not (a job joined or left, or the block is full), the rows are copied into a new one. A block lives as
long as a state refers to it, so that a cancelled job costs nothing once the others have moved on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from koma.runtime.pulse import beat

HEADROOM = 64
"""Positions added beyond the longest row: a block is copied once in this many steps."""


@dataclass(frozen=True)
class Block:
    """Keys and values of some rows."""

    data: torch.Tensor
    """[layers, 2, rows, heads, capacity, head width]; positions beyond a row's length are zero or void"""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.data.shape[2]

    @property
    def capacity(self) -> int:
        """Positions of each row."""
        return self.data.shape[4]


@dataclass(frozen=True)
class Row:
    """The keys and values of one job: a row of a block and how much of it is filled."""

    block: Block
    index: int
    length: int

    def longer(self) -> Row:
        """The same row with one more position filled."""
        return Row(self.block, self.index, self.length + 1)

    @property
    def filled(self) -> torch.Tensor:
        """[layers, 2, heads, length, head width]"""
        return self.block.data[:, :, self.index, :, : self.length]


def from_layers(layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Row:
    """The row of a prompt from the keys and values [1, heads, length, head width] of every layer."""
    data = torch.stack([torch.stack(pair) for pair in layers])
    return Row(Block(data), 0, data.shape[4])


def together(rows: Sequence[Row]) -> list[Row]:
    """Return ``rows`` as all the rows of one block, in order, with room for one more position each.

    Copies only where they are not that already.
    """
    block = rows[0].block
    longest = max(row.length for row in rows)
    in_place = block.rows == len(rows) and longest < block.capacity
    if in_place and all(row.block is block and row.index == index for index, row in enumerate(rows)):
        return list(rows)
    layers, pair, _, heads, _, width = block.data.shape
    data = block.data.new_zeros(layers, pair, len(rows), heads, longest + HEADROOM, width)
    for index, row in enumerate(rows):
        data[:, :, index, :, : row.length] = row.filled
    merged = Block(data)
    return [Row(merged, index, row.length) for index, row in enumerate(rows)]


class AllRead(Exception):
    """The keys and values of every layer are there: what else the forward would compute, nobody asks for."""


class Reader:
    """The cache that the forward of a prompt sees: empty before, it takes the keys and values of each layer,
    and raises :class:`AllRead` with those of the last one.

    It has the methods of ``transformers.Cache`` that a forward of the language model calls. Every layer beats
    here: hooks would take two hundredths of the time of a small step.
    """

    def __init__(self, layers: int) -> None:
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Keys and values [1, heads, length, head width] of each layer"""
        self._all = layers

    def get_seq_length(self) -> int:
        """Positions before the prompt."""
        return 0

    def get_query_offset(self, layer_idx: int) -> int:
        """The position of the first token."""
        return 0

    def get_mask_sizes(self, length: int, layer_idx: int) -> tuple[int, int]:
        """How many positions a prompt of ``length`` tokens attends to, and where they begin."""
        return length, 0

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *args: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the keys and values of a layer; they are all that there is to attend to."""
        beat()
        self.layers.append((keys, values))
        if len(self.layers) == self._all:
            raise AllRead
        return keys, values


class Writer:
    """The cache that one decoding forward sees: writes one position per row, each at its own place.

    It has the one method of ``transformers.Cache`` that the attention layers call. Every layer beats here.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._data = rows[0].block.data
        device = self._data.device
        self._rows = torch.arange(len(rows), device=device)
        self.positions = torch.tensor([row.length for row in rows], device=device)
        self._reach = max(row.length for row in rows) + 1

    @property
    def mask(self) -> torch.Tensor:
        """[rows, 1, 1, reach]: which positions a row attends to, its new one included."""
        places = torch.arange(self._reach, device=self.positions.device)
        return (places[None] <= self.positions[:, None])[:, None, None]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *args: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store keys and values [rows, heads, 1, head width]; return those of all positions within reach."""
        beat()
        layer = self._data[layer_idx]
        layer[0, self._rows, :, self.positions] = keys[:, :, 0]
        layer[1, self._rows, :, self.positions] = values[:, :, 0]
        return layer[0, :, :, : self._reach], layer[1, :, :, : self._reach]
