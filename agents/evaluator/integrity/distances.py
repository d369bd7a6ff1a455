"""How far the tensors of a model lie from those of its base, and whether they are related at all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.evaluator.integrity.adapters import Adapter
from agents.evaluator.integrity.tensors import Floats, Weights, plain_name
from shared_memory.records import Record

SAMPLED = 2**18
"""Numbers that are read of a tensor, in whole rows."""
PAIRED, WIDTH = 64, 1024
"""Rows of a matrix that are paired, and how much of each, to see whether it is related to the base's."""
ARITHMETIC = 1e-5
"""Relative difference between two ways to add an adapter up in float32."""


class TensorDistance(Record):
    """How far one tensor lies from the base's."""

    name: str
    distance: float
    """Frobenius norm of the change over that of the base's tensor."""
    cosine: float | None = None
    """Between the two; None of an adapter's change."""


@dataclass(frozen=True)
class Sums:
    """Of one tensor, over the rows that were read, scaled to all of it."""

    name: str
    base: float
    model: float
    product: float
    change: float
    excess: float
    """Root mean square of what is neither the base nor its adapter, beyond rounding; 0 where that explains it all."""
    moved: float
    """Root mean square of the change, rounding taken off."""
    related: float | None
    """Standard errors; None of what is no matrix, or too small."""

    @property
    def told(self) -> TensorDistance:
        norm = math.sqrt(self.base * self.model)
        distance = math.sqrt(self.change / self.base) if self.base else float(self.change > 0)
        return TensorDistance(
            name=self.name, distance=round(distance, 6), cosine=round(self.product / norm, 6) if norm else 1.0
        )


def sums_of(names: tuple[str, str], weights: tuple[Weights, Weights], merged: Adapter | None) -> Sums:
    """Compare a tensor of the base with the model's, called so there and there; `merged` is the adapter in it."""
    base, model = weights
    chosen, scale = rows_of(names[0], base.shapes[names[0]])
    a, b = base.rows(names[0], chosen), model.rows(names[1], chosen)
    change = b.astype(np.float64) - a
    size = max(1, a.size)
    rms = math.sqrt(float(np.sum(a.astype(np.float64) ** 2)) / size)
    noise = (base.rounding(names[0]) + model.rounding(names[1])) * rms
    excess = 0.0
    if merged is not None:
        rest = b - merged.merged(plain_name(names[0]), a, chosen)
        left = math.sqrt(float(np.sum(rest**2)) / size)
        excess = left if left > noise + ARITHMETIC * rms else 0.0
    moved = math.sqrt(float(np.sum(change**2)) / size)
    return Sums(
        name=plain_name(names[0]),
        base=scale * size * rms**2,
        model=scale * float(np.sum(b.astype(np.float64) ** 2)),
        product=scale * float(np.sum(a.astype(np.float64) * b)),
        change=scale * float(np.sum(change**2)),
        excess=excess,
        moved=max(0.0, moved - noise),
        related=relation(a, b),
    )


def relation(a: Floats, b: Floats) -> float | None:
    """Standard errors by which row i of `a` is more like row i of `b` than like its other rows; None for few rows.

    Where two models were trained apart any order of hidden units is as likely as any other [arXiv 2502.12292], so rows
    that belong together are no more alike than rows that do not.
    """
    if min(a.shape) < 16 or a.shape != b.shape:
        return None
    step = max(1, len(a) // PAIRED)
    ours, theirs = (each[::step][:PAIRED, :WIDTH].astype(np.float64) for each in (a, b))
    alike = np.einsum("ik,jk->ij", ours, theirs)  # a matrix product's idle threads would spin for longer than it takes
    n = len(alike)
    others = alike[~np.eye(n, dtype=bool)]
    spread = float(others.std()) / math.sqrt(n)
    ahead = float(np.trace(alike)) / n - float(others.mean())
    return ahead / spread if spread else (math.inf if ahead > 0 else 0.0)


def rows_of(name: str, shape: Sequence[int]) -> tuple[NDArray[np.intp] | None, float]:
    """The rows of a tensor of the base that are read (None for all), and how many times as many it has."""
    columns = shape[-1] if shape else 1
    rows = math.prod(shape) // columns if columns else 0
    wanted = max(PAIRED, SAMPLED // max(1, columns))
    if rows <= wanted:
        return (np.arange(rows) if rows else None), 1.0
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.sort(np.random.default_rng(seed).choice(rows, wanted, replace=False)), rows / wanted


def square_of(weights: Weights, name: str) -> float:
    """The sum of a tensor's squares, from the rows that are read."""
    chosen, scale = rows_of(name, weights.shapes[name])
    return scale * float(np.sum(weights.rows(name, chosen).astype(np.float64) ** 2))
