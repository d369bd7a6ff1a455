"""Rows that say the same, exactly or nearly: within the rows to train on, and between these and those to measure on."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from agents.data_engineer.checks.check import MUCH, AuditBatch, Check, Ordinals, Tally, Whole, chosen, union
from agents.data_engineer.checks.findings import EXAMPLES, AuditFinding, Kind, Severity
from agents.data_engineer.duplicates.dedup import identity_digests, shingles
from agents.data_engineer.duplicates.near_duplicates import NearDuplicates
from agents.data_engineer.filters import asked
from agents.data_engineer.proposal import NEAR_DUPLICATES


class Duplicates(Check):
    """Exact duplicates by `filters.identity`; near ones by `dedup`, with a Jaccard similarity of NEAR_DUPLICATES."""

    def __init__(self, *, near: bool = True) -> None:
        self._near = NearDuplicates(NEAR_DUPLICATES) if near else None
        self._digests: list[NDArray[np.uint64]] = []
        self._ordinals: list[Ordinals] = []
        self._measured: list[NDArray[np.bool_]] = []

    def see(self, batch: AuditBatch) -> None:
        rows = [batch.rows[place] for place in batch.sound]
        if not rows:
            return
        digests = identity_digests(rows)
        self._digests.append(digests)
        self._ordinals.append(batch.ordinals[batch.sound])
        self._measured.append(np.full(len(rows), batch.measured))
        if self._near is not None:
            self._near.add(shingles(rows, chosen(batch.told, batch.sound)), digests)

    @cached_property
    def _rows(self) -> Ordinals:
        return np.concatenate(self._ordinals) if self._ordinals else np.empty(0, np.int64)

    @cached_property
    def _is_measured(self) -> NDArray[np.bool_]:
        return np.concatenate(self._measured) if self._measured else np.empty(0, bool)

    @cached_property
    def _groups(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The position of the first row of each group, and for each row its group."""
        digests = np.concatenate(self._digests) if self._digests else np.empty(0, np.uint64)
        _, first, group = np.unique(digests, return_index=True, return_inverse=True)
        return first, group

    @property
    def distinct(self) -> int:
        """Sound rows without exact duplicates."""
        return len(self._groups[0])

    @cached_property
    def _exact(self) -> NDArray[np.intp]:
        """Positions of rows that occurred before."""
        first, group = self._groups
        return np.flatnonzero(first[group] != np.arange(len(group)))

    @cached_property
    def _nearly(self) -> NDArray[np.int64]:
        """Positions of rows that go beyond these."""
        return self._near.duplicates().rows if self._near is not None else np.empty(0, np.int64)

    def _original(self, position: int) -> int:
        """Position of the first row that a duplicate is like."""
        first, group = self._groups
        if self._near is None or first[group[position]] != position:
            return int(first[group[position]])
        found = self._near.duplicates()
        if len(at := np.flatnonzero(found.rows == position)):
            return int(found.originals[at[0]])
        pairs = self._near.pairs()
        at = np.flatnonzero(pairs.second == position)
        return int(pairs.first[at[0]]) if len(at) else position

    @property
    def counts(self) -> dict[str, int]:
        """Rows that are exact duplicates of an earlier one, and those that are nearly so beyond them."""
        return {"exact": len(self._exact), "near": len(self._nearly)}

    @cached_property
    def _across(self) -> tuple[Ordinals, Ordinals]:
        """Positions of the rows to measure on that are among those to train on, and of these."""
        measured, group = self._is_measured, self._groups[1]
        both = np.intersect1d(group[measured], group[~measured])
        found = [np.flatnonzero(np.isin(group, both))]
        if self._near is not None:
            pairs = self._near.pairs()
            mixed = measured[pairs.first] != measured[pairs.second]
            found += [pairs.first[mixed], pairs.second[mixed]]
        rows = union(found)
        return rows[measured[rows]], rows[~measured[rows]]

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        across = self._across[0]
        exact, nearly = np.setdiff1d(self._exact, across), np.setdiff1d(self._nearly, across)
        advice = "the first of each is kept"
        yield from self._finding("exact_duplicates", "warning", exact, whole, advice)
        much: Severity = "warning" if len(nearly) >= MUCH * max(1, whole.rows) else "info"
        alike = (
            f"{NEAR_DUPLICATES:.0%} or more of their word 5-grams are those of an earlier row, with the same numbers"
        )
        yield from self._finding("near_duplicates", much, nearly, whole, f"{alike}; {advice}")
        advice = "rows to measure on that are also, or nearly, among those to train on: scores would be too high"
        yield from self._finding("across_splits", "error", across, whole, advice)

    def _finding(
        self, kind: Kind, severity: Severity, positions: Ordinals, whole: Whole, advice: str
    ) -> Iterable[AuditFinding]:
        tally = Tally()
        tally.count = len(positions)
        few = positions[:EXAMPLES].tolist()
        rows = whole.lookup(self._rows[[*few, *map(self._original, few)]].tolist())
        tally.examples = [
            row.model_copy(update={"text": f"like {like}: {row.text}"})
            for row, like in zip(rows[: len(few)], rows[len(few) :], strict=True)
        ]
        fix = "those to train on are left out" if kind == "across_splits" else "they are left out"
        return tally.finding(kind, severity, whole.rows, advice, fix=fix)

    def dropped(self) -> Iterable[Ordinals]:
        measured, trained = self._across
        return [self._rows[np.setdiff1d(union([self._exact, self._nearly]), measured)], self._rows[trained]]


class Contradictions(Check):
    """Multiple-choice questions that come with several answers or explanations."""

    def __init__(self) -> None:
        self._asked: list[NDArray[np.uint64]] = []
        self._said: list[NDArray[np.uint64]] = []
        self._ordinals: list[Ordinals] = []

    def see(self, batch: AuditBatch) -> None:
        places = [place for place in batch.sound if batch.rows[place].choices]
        if not places:
            return
        rows = [batch.rows[place] for place in places]
        self._asked.append(_digests(asked(row) for row in rows))
        self._said.append(identity_digests(rows))
        self._ordinals.append(batch.ordinals[places])

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        if not self._asked:
            return
        said = np.concatenate(self._said)
        first = np.sort(np.unique(said, return_index=True)[1])  # rows that say the same contradict nothing
        asks = np.concatenate(self._asked)[first]
        _, question, times = np.unique(asks, return_inverse=True, return_counts=True)
        ordinals = np.concatenate(self._ordinals)[first[times[question] > 1]]
        tally = Tally()
        tally.count = len(ordinals)
        tally.examples = list(whole.lookup(ordinals[:EXAMPLES].tolist()))
        advice = "these questions come with several answers or explanations: see whether one of them is wrong"
        yield from tally.finding("contradictions", "warning", whole.rows, advice)


def _digests(values: Iterable[Hashable]) -> NDArray[np.uint64]:
    return np.frombuffer(
        b"".join(hashlib.blake2b(repr(value).encode(), digest_size=8).digest() for value in values), dtype=np.uint64
    )
