"""Mixtures by weight, and strata that are repeated until they are heard."""

from __future__ import annotations

from collections import Counter

import pytest

from agents.data_engineer.formats.rows import Row
from agents.data_engineer.mixture import mix
from shared_memory.errors import BadInput


def rows(source: int, count: int) -> list[Row]:
    return [Row(id=f"{source}:{n}", question=f"{source} {n}") for n in range(1, count + 1)]


PARTS = {"a": rows(1, 100), "b": rows(2, 10)}


def test_weights_give_the_shares_and_rows_keep_their_ids() -> None:
    mixed, step = mix(PARTS, {"a": 3, "b": 1}, seed=0, rows=40)
    counts = Counter(row.id.partition(":")[0] for row in mixed)
    assert counts == {"1": 30, "2": 10}
    assert len({row.id for row in mixed}) == 40
    assert (step.rows_in, step.rows_out) == (110, 40)
    assert step.note == "a 30 (0.30 × 100); b 10 (1.00 × 10)"
    assert mixed != sorted(mixed, key=lambda row: row.id), "shuffled: a batch sees all sources"


def test_a_small_part_is_repeated_evenly_and_never_more_than_allowed() -> None:
    mixed, step = mix(PARTS, {"a": 1, "b": 1}, seed=0, rows=50)
    repeats = Counter(row.id for row in mixed if row.id.startswith("2"))
    assert sorted(repeats.values()) == [2] * 5 + [3] * 5
    mixed, step = mix(PARTS, {"a": 1, "b": 1}, seed=0)
    assert Counter(row.id.partition(":")[0] for row in mixed) == {"1": 55, "2": 40}
    assert "b 40 (4.00 × 10, 15 short of its share)" in step.note


def test_the_same_seed_gives_the_same_mixture_and_another_another() -> None:
    first, again, other = (mix(PARTS, {"a": 1, "b": 2}, seed=seed, rows=60)[0] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 100])
def test_rounding_loses_no_row(size: int) -> None:
    parts = {name: rows(at, 200) for at, name in enumerate("abc")}
    assert len(mix(parts, {"a": 1, "b": 1, "c": 1}, seed=0, rows=size)[0]) == size


def test_a_part_of_weight_zero_or_without_rows_adds_none() -> None:
    mixed, _ = mix({**PARTS, "c": []}, {"a": 1, "b": 0, "c": 1}, seed=0, rows=20)
    assert {row.id[0] for row in mixed} == {"1"}


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ({"a": 1}, "see b"),
        ({"a": 1, "b": 1, "c": 1}, "see c"),
        ({"a": 1, "b": -1}, "the weight of b is -1; give a number from 0"),
        ({"a": 1, "b": float("nan")}, "the weight of b is nan"),
        ({"a": 0, "b": 0}, "all weights are 0"),
    ],
)
def test_weights_that_make_no_mixture_are_one_line(weights: dict[str, float], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        mix(PARTS, weights, seed=0)
