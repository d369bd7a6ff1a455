"""Preference pairs and labels: what they prefer beside quality."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.data_engineer.checks.check import AuditBatch, Check, Ordinals, Tally, Whole, shown
from agents.data_engineer.checks.findings import AuditFinding, Severity

SMALL, MEDIUM = 0.2, 0.5
"""Effect sizes (Cohen's d) that are worth knowing, and that can be seen with the naked eye [Cohen 1988]."""
SURE = 0.001
"""p below which a bias is no accident."""
CLASSES = 20
"""Different values of a column of labels, at most."""
CROWDED = 0.9
"""Share of one label from which a classifier that always says it looks good."""
AT_LEAST = 10
"""Rows with one label below which nothing is said."""
SHORT = 30
"""Characters of an answer that may be a label."""
ANSWER = "the answer"
"""Stands for a column where the answers themselves are labels (`yes`, `no`)."""
LABELS = frozenset({"label", "labels", "class", "category", "sentiment", "target", "intent", "stance", "topic"})
"""Columns, by their names in lower case, whose values are labels if there are few of them."""


class Preferences(Check):
    """Pairs that prefer nothing, and pairs that prefer length."""

    def __init__(self) -> None:
        self._identical = Tally()
        self._lengths: list[NDArray[np.float64]] = []

    def see(self, batch: AuditBatch) -> None:
        self._identical.add(batch, batch.identical)
        pairs = [batch.rows[place] for place in batch.sound if batch.rows[place].rejected]
        if pairs:
            lengths = [
                [sum(len(m.content) for m in reply) for reply in (row.completion, row.rejected)] for row in pairs
            ]
            self._lengths.append(np.asarray(lengths, dtype=np.float64))

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        advice = "pairs whose chosen and rejected replies are the same prefer nothing"
        yield from self._identical.finding("identical_pairs", "warning", whole.rows, advice, fix="they are left out")
        if self._lengths:
            yield from _length_bias(np.concatenate(self._lengths), whole.rows)

    def dropped(self) -> Iterable[Ordinals]:
        return [self._identical.ordinals]


def _length_bias(lengths: NDArray[np.float64], total: int) -> Iterable[AuditFinding]:
    """Whether chosen replies are longer or shorter: d of the log ratio of the lengths, and Wilcoxon's signed ranks."""
    ratio = np.log(np.maximum(lengths[:, 0], 1) / np.maximum(lengths[:, 1], 1))
    if len(ratio) < 2 or not ratio.any():
        return
    from scipy.stats import wilcoxon

    spread = float(ratio.std(ddof=1))
    effect = float(ratio.mean()) / spread if spread else math.copysign(math.inf, ratio.mean())
    p = float(wilcoxon(ratio, method="asymptotic").pvalue)
    if abs(effect) < SMALL or p >= SURE:
        return
    longer = float((ratio > 0).mean())
    word, share = ("longer", longer) if effect > 0 else ("shorter", float((ratio < 0).mean()))
    severity: Severity = "warning" if abs(effect) >= MEDIUM else "info"
    yield AuditFinding(
        kind="length_bias",
        severity=severity,
        count=round(share * len(ratio)),
        share=round(share * len(ratio) / max(1, total), 6),
        advice=f"the chosen reply is {word} in {share:.0%} of {len(ratio):,} pairs (d = {effect:+.2f}, "
        f"Wilcoxon p {'< 0.001' if p < SURE else f'= {p:.3f}'}): the model learns length; "
        "add pairs that go the other way, or train with a length penalty",
    )


class Labels(Check):
    """How evenly the labels of rows are spread: desirable or not (KTO), and columns of classes."""

    def __init__(self) -> None:
        self._desirable: Counter[bool] = Counter()
        self._columns: defaultdict[str, Counter[str] | None] = defaultdict(Counter)

    def see(self, batch: AuditBatch) -> None:
        for row in batch.rows:
            if row.label is not None:
                self._desirable[row.label] += 1
        wanted = {column for record in batch.records[:1] for column in record if column.lower() in LABELS}
        part = set(batch.layout.columns.values()) if batch.layout else set()
        for column in sorted(wanted - part):
            self._count(column, [record.get(column) for record in batch.records])
        if not any(row.choices for row in batch.rows[:1]):
            lengths = batch.replies.str.len_chars()
            self._count(ANSWER, batch.replies.to_list() if (lengths <= SHORT).all() else None)

    def _count(self, column: str, values: list[Any] | None) -> None:
        """None, and more than CLASSES values, tell that these are no labels."""
        counts = self._columns[column]
        if counts is not None and values is not None:
            counts.update(str(value) for value in values if isinstance(value, str | int | bool))
        if values is None or (counts is not None and len(counts) > CLASSES):
            self._columns[column] = None

    @property
    def histogram(self) -> dict[str, dict[str, int]]:
        """Column → label → rows; KTO's under `label`."""
        found = {column: dict(counts.most_common()) for column, counts in self._columns.items() if counts}
        if self._desirable:
            found["label"] = {str(label).lower(): count for label, count in self._desirable.most_common()}
        return found

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        for column, counts in self.histogram.items():
            rows = sum(counts.values())
            most, count = next(iter(counts.items()))
            desirable = bool(self._desirable) and column == "label"
            if count < max(AT_LEAST, CROWDED * rows) or (len(counts) == 1 and not desirable):
                continue
            others = ", ".join(f"{label} {n:,}" for label, n in list(counts.items())[1:4]) or "nothing else"
            mend = (
                "weight the rarer kind (`desirable_weight`, `undesirable_weight`: both kinds should weigh 1:1 to 4:3 "
                "[arXiv 2402.01306]), or add rows of it"
                if desirable
                else "a model that always says it looks good; add rows of the others, or sample evenly"
            )
            yield AuditFinding(
                kind="label_imbalance",
                severity="warning",
                count=count,
                share=round(count / max(1, whole.rows), 6),
                advice=f"{column} is {shown(most)} in {count / rows:.0%} of {rows:,} rows ({others}): {mend}",
            )
