"""Rows that contain items of the benchmarks on which the model will be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from agents.data_engineer.checks.check import AuditBatch, Check, Ordinals, Tally, Whole
from agents.data_engineer.checks.findings import AuditFinding
from agents.data_engineer.contamination.decontaminate import BenchmarkText, Detector

VERBATIM = frozenset({"question", "overlap", "13-gram", "8-gram"})
"""Rules that need the item's own words: an error. A paraphrase is inferred: a warning."""


class Contamination(Check):
    """Examples name the item and never quote the row: it has the benchmark's text in it, which is not to be spread."""

    def __init__(self, benchmarks: Sequence[BenchmarkText]) -> None:
        self._sizes = Counter(name for name, _ in {(item.benchmark, item.id) for item in benchmarks})
        self._detector = Detector(benchmarks)
        self._verbatim, self._paraphrased = Tally(), Tally()
        self._items: dict[str, set[str]] = {name: set() for name in self._sizes}
        self._rows: dict[str, Tally] = {name: Tally() for name in self._sizes}

    def see(self, batch: AuditBatch) -> None:
        rows: dict[str, dict[int, str]] = {name: {} for name in self._sizes}
        worst: dict[int, bool] = {}
        said: dict[int, str] = {}
        for hit in self._detector.hits(batch.rows, batch.tokens):
            name = hit.item.benchmark
            self._items[name].add(hit.item.id)
            told = f"item {hit.item.id} of {name} ({hit.rule}, {hit.score:.2f})"
            rows[name].setdefault(hit.row, told)
            said.setdefault(hit.row, told)
            worst[hit.row] = worst.get(hit.row, False) or hit.rule in VERBATIM
        for name, found in rows.items():
            _add(self._rows[name], batch, found)
        _add(self._verbatim, batch, {row: said[row] for row, verbatim in worst.items() if verbatim})
        _add(self._paraphrased, batch, {row: said[row] for row, verbatim in worst.items() if not verbatim})

    @property
    def benchmarks(self) -> list[dict[str, Any]]:
        """For each {benchmark, flagged: rows, items: those found, rate: their share of its items, examples}."""
        return [
            {
                "benchmark": name,
                "flagged": self._rows[name].count,
                "items": len(self._items[name]),
                "rate": round(len(self._items[name]) / size, 6),
                "examples": [example.plain() for example in self._rows[name].examples],
            }
            for name, size in self._sizes.items()
        ]

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        fix = "they are left out"
        advice = "rows with items of the benchmark in them: its score would be worth nothing"
        yield from self._verbatim.finding("contamination", "error", whole.rows, advice, fix=fix)
        advice = "rows that say in other words what items of the benchmark say; look at them"
        yield from self._paraphrased.finding("contamination", "warning", whole.rows, advice, fix=fix)

    def dropped(self) -> Iterable[Ordinals]:
        return [self._verbatim.ordinals, self._paraphrased.ordinals]


def _add(tally: Tally, batch: AuditBatch, items: dict[int, str]) -> None:
    tally.add(batch, sorted(items), items.__getitem__)
