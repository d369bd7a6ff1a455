"""What a training step keeps of its forward pass: the tensors that transformers' modules save, counted in bytes.

`scripts/exact_memory.py` lists the same tensors from a real step. Numbers of elements are a token's, of one block.
"""

from __future__ import annotations

from typing import Literal

from agents.trainer.shape import Shape
from shared_memory.records import Recipe, Record

Device = Literal["cpu", "gpu"]
EAGER_UP_TO = 512
"""Tokens up to which `scripts/weights.py` has a processor hold the attention matrix."""


class Arithmetic(Record):
    """In how many bytes a step keeps an element of what."""

    weight: int
    """Of the base's weights, and of the sum that runs from block to block."""
    math: int
    """Of what matrices are multiplied in."""
    adapter: int
    """Of an adapter's weights."""
    cast: bool
    """Whether autocast makes a copy for each linear layer, instead of one for those with the same input."""


class Batch(Record):
    """What one forward pass computes."""

    rows: int
    length: int
    """Tokens of a row, padding included."""
    uneven: bool
    """Whether rows differ in length, or are packed, so that attention needs a mask."""

    @property
    def tokens(self) -> int:
        return self.rows * self.length


def arithmetic_of(recipe: Recipe, device: Device, bf16: bool) -> Arithmetic:
    """The precision that `scripts/weights.py` gives a recipe; `bf16` says whether the device calculates in it."""
    lora = recipe.lora
    in_bf16 = recipe.precision == "bfloat16" or (recipe.precision == "mixed" and lora is not None and device == "gpu")
    autocast = recipe.precision == "mixed" and bf16
    nf4 = lora is not None and lora.base == "nf4"
    return Arithmetic(
        weight=2 if in_bf16 else 4,
        math=2 if autocast or in_bf16 else 4,
        adapter=2 if nf4 else 4,  # TRL has adapters of a base in four bits in bfloat16, peft all others in float32
        cast=autocast and not nf4,
    )


def kept_by_a_block(shape: Shape, recipe: Recipe, how: Arithmetic, *, expanded: bool) -> float:
    """Bytes that a block keeps of each token, the attention mask aside.

    expanded: whether keys and values are repeated for every query head, as they are under a mask.
    """
    return _norms(shape, recipe, how) + _attention(shape, how, expanded) + _linear(shape, recipe, how)


def kept_by_masks(shape: Shape, how: Arithmetic, batch: Batch, device: Device) -> tuple[int, float]:
    """The blocks that attend under a mask, and the bytes that each of them keeps for it.

    Memory-efficient attention keeps the mask as a bias in the type of the queries, once a block. A processor that holds
    the attention matrix keeps it in float32 after the softmax, and in the type of the values.
    """
    cells = batch.rows * batch.length**2
    if device == "cpu" and batch.length <= EAGER_UP_TO:
        return shape.layers, cells * shape.heads * (4 + how.math % 4)
    windowed = shape.windowed if batch.length >= shape.window > 0 else 0
    return shape.layers if batch.uneven else windowed, cells * how.math


def booleans(shape: Shape, batch: Batch) -> float:
    """Bytes of the masks that the model makes, one of each kind, a byte a cell."""
    windowed = batch.length >= shape.window > 0 and shape.windowed > 0
    kinds = (shape.windowed < shape.layers) * batch.uneven + windowed if windowed else batch.uneven
    return kinds * batch.rows * batch.length**2


def passing(shape: Shape, recipe: Recipe, how: Arithmetic) -> float:
    """Bytes a token that come and go while a block is computed back, on top of what is kept: its MLP's, the widest.

    All weights: the gradients of the product, of the activation and of `up`, less the product. An adapter: the input of
    `down` in float32 and as it was, or the same for gradients.
    """
    width, hidden = shape.inner * shape.active + shape.shared, shape.hidden
    wide = 6 * width if recipe.lora and (how.cast or how.weight != how.adapter) else 2 * how.math * width
    return wide + (4 if recipe.lora else 2) * hidden * how.weight


def _norms(shape: Shape, recipe: Recipe, how: Arithmetic) -> float:
    """A norm computes in float32, of a copy where its input is not; a weight's gradient needs its factor."""
    full, gemma = recipe.lora is None, shape.norms == 4
    kept = shape.norms * (shape.hidden * (4 + (4 if gemma else how.weight) * full) + 4)
    if shape.normed_heads:
        factor = 4 if gemma else how.math
        kept += (shape.queries + shape.values) * (4 + factor * full) + 4 * (shape.heads + shape.keys)
    return kept


def _attention(shape: Shape, how: Arithmetic, expanded: bool) -> float:
    """Queries, keys, values and the output, with a log-sum-exp a head."""
    q, k = shape.queries, shape.values
    repeated = expanded and 1 < shape.keys < shape.heads
    kept = 2 * q + 2 * (q if repeated else k)
    if shape.fused and not repeated:
        kept += q + k  # values are a view of the whole projection, which stays
    return kept * how.math + 4 * shape.heads


def _linear(shape: Shape, recipe: Recipe, how: Arithmetic) -> float:
    """The MLP's gate, activation and `up`, and the inputs of the linear layers."""
    lora, hidden = recipe.lora, shape.hidden
    width = shape.inner * shape.active + shape.shared
    inputs = [width_in for width_in, _ in shape.linear_widths]
    several = len(inputs) - 2  # with the hidden state as input; the others are the attention's output and the product
    kept = 3.0 * width * how.math
    if lora is None:
        return kept + (several if how.cast else 2) * hidden * how.math + width * how.math
    shared = not how.cast and how.adapter == how.weight
    copy = how.math if how.cast else how.adapter
    kept += (2 if shared else several) * hidden * copy + width * copy + (0 if shared else shape.queries * copy)
    return kept + len(inputs) * lora.r * copy + sum(inputs) * (lora.dropout > 0)
