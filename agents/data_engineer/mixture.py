"""Mixes rows by weight: seeded, so that the same rows and seed give the same mixture."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from agents.data_engineer.filters import Filtered
from agents.data_engineer.formats.rows import Row
from shared_memory.errors import BadInput
from shared_memory.records import Step

MOST_REPEATS = 4.0
"""Times that a row may stand in a mixture: up to four, repeated data serve nearly as well as new ones
[Muennighoff et al. 2023, arXiv 2305.16264]."""


def mix(
    parts: Mapping[str, Sequence[Row]],
    weights: Mapping[str, float],
    *,
    seed: int,
    rows: int | None = None,
    most_repeats: float = MOST_REPEATS,
) -> Filtered:
    """Rows of all parts in the proportion of their weights, shuffled, under the ids that they had.

    `rows` in all; where that is left out, as many as there are. A part that has more than its share gives a random
    sample, one that has less gives each row as often as needed, at most `most_repeats` times: then the mixture is
    smaller, and the step says so. Raises BadInput where a part has no weight, or a weight no part or no use.
    """
    _require_weights(parts, weights)
    available = sum(map(len, parts.values()))
    wanted = _shares(weights, available if rows is None else rows)
    rng = random.Random(seed)
    mixture: list[Row] = []
    notes = []
    for name, part in parts.items():
        count = min(wanted[name], int(most_repeats * len(part)))
        if part:
            times = _times(len(part), count, rng)
            mixture += [row for row, repeats in zip(part, times, strict=True) for _ in range(repeats)]
        factor = count / len(part) if part else 0.0
        short = f", {wanted[name] - count} short of its share" if count < wanted[name] else ""
        notes.append(f"{name} {count} ({factor:.2f} × {len(part)}{short})")
    rng.shuffle(mixture)
    return mixture, Step(name="mix", rows_in=available, rows_out=len(mixture), note="; ".join(notes))


def _require_weights(parts: Mapping[str, Sequence[Row]], weights: Mapping[str, float]) -> None:
    if set(parts) != set(weights):
        odd = sorted(set(parts) ^ set(weights))
        raise BadInput(f"the weights are for {', '.join(weights)}, the data are {', '.join(parts)}; see {odd[0]}")
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise BadInput(f"the weight of {name} is {weight}; give a number from 0")
    if not any(weights.values()):
        raise BadInput("all weights are 0; give one that is more")


def _shares(weights: Mapping[str, float], rows: int) -> dict[str, int]:
    """How many of `rows` each weight comes to; what rounding leaves goes to the largest remainders."""
    total = sum(weights.values())
    exact = {name: rows * weight / total for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    left = rows - sum(shares.values())
    for name in sorted(exact, key=lambda name: (shares[name] - exact[name], name))[:left]:
        shares[name] += 1
    return shares


def _times(members: int, count: int, rng: random.Random) -> list[int]:
    """How often each of the members stands among `count`: all alike, and a random sample once more."""
    every, rest = divmod(count, members)
    once_more = set(rng.sample(range(members), rest))
    return [every + (at in once_more) for at in range(members)]
