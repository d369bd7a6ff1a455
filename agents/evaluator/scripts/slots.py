"""Keys and values of many texts of different lengths, in one block of memory that is written in place.

transformers' own cache grows by copying all of it at every token, and has one length for all rows: a row can neither
join nor leave. Here every row begins at column 0 and has its own end; what lies beyond is masked.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

STEP = 256
"""Columns by which the block grows, at least."""


def has_plain_cache(model: Any) -> bool:
    """Whether all of the model's layers attend to everything before: others have a cache of another kind."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


class Slots:
    """Room for `rows` texts; the first `len(ends)` are in use."""

    def __init__(self, model: Any, rows: int) -> None:
        self.rows = rows
        self.layers = [_Layer(self) for _ in DynamicCache(config=model.config).layers]
        self.cache = Cache(layers=self.layers)
        self.ends: list[int] = []
        """Of each text, the columns that are filled."""
        self.places: tuple[torch.Tensor, torch.Tensor] | None = None
        """Rows and columns that the step under way writes to."""
        self.width = 0
        """Columns that it reads."""

    def add(self, cache: DynamicCache, ends: Sequence[int]) -> None:
        """Copies the first rows of a cache into the next free slots."""
        first, columns = len(self.ends), cache.get_seq_length()
        for layer, source in zip(self.layers, cache.layers, strict=True):
            layer.reserve(source.keys, source.values, columns)
            for block, part in ((layer.keys, source.keys), (layer.values, source.values)):
                block[first : first + len(ends), :, :columns] = part[: len(ends)]
        self.ends += ends

    def begin_step(self, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Every text gets one more token: its positions (rows, 1), and the mask of what it sees (rows, columns)."""
        ends = torch.tensor(self.ends, device=device)
        self.width = max(self.ends) + 1
        self.places = (torch.arange(len(self.ends), device=device), ends)
        mask = torch.arange(self.width, device=device) <= ends[:, None]
        return ends[:, None], mask.long()

    def end_step(self) -> None:
        self.ends = [end + 1 for end in self.ends]

    def drop(self, row: int) -> None:
        """The last text takes the place of one that has ended."""
        last, end = len(self.ends) - 1, self.ends[-1]
        if row != last:
            for layer in self.layers:
                layer.keys[row, :, :end] = layer.keys[last, :, :end]
                layer.values[row, :, :end] = layer.values[last, :, :end]
            self.ends[row] = end
        self.ends.pop()


class _Layer(DynamicLayer):
    """One layer's part of the block: (rows, heads, columns, size of a head)."""

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self.slots = slots

    def reserve(self, keys: torch.Tensor, values: torch.Tensor, columns: int) -> None:
        """Room for so many columns of the kind of these keys and values; zeros, since a masked NaN is a NaN still."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        have = self.keys.shape[2] if self.keys.dim() == 4 else 0
        if have < columns:
            self.keys = self._grown(self.keys, keys, have, columns)
            self.values = self._grown(self.values, values, have, columns)

    def _grown(self, block: torch.Tensor, like: torch.Tensor, have: int, columns: int) -> torch.Tensor:
        new = like.new_zeros(self.slots.rows, like.shape[1], max(columns, have * 5 // 4) + STEP, like.shape[3])
        if have:
            new[:, :, :have] = block
        return new

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows, columns = self.slots.places
        self.reserve(keys, values, self.slots.width)
        self.keys[rows, :, columns] = keys[:, :, 0]
        self.values[rows, :, columns] = values[:, :, 0]
        return self.keys[: len(rows), :, : self.slots.width], self.values[: len(rows), :, : self.slots.width]

    def get_seq_length(self) -> int:
        return self.slots.width - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.slots.width, 0
