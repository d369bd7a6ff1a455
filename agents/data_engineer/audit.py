"""What is wrong with training rows before anything is done to them, and with their letters afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from agents.data_engineer.filters import asked, identity, is_ambiguous, is_empty
from agents.data_engineer.formats import Row
from agents.data_engineer.words import words
from shared_memory.records import Record

MINIMUM_ROWS = 8
"""Rows without which nothing is trained: fewer are a mistake, not a data set."""
CROWDED = 1.5
"""A letter that holds this many times its even share teaches the letter instead of the answer."""


class AuditFinding(Record):
    """One kind of fault."""

    kind: Literal["empty", "ambiguous", "exact_duplicates", "contradictions", "letters", "too_few"]
    severity: Literal["error", "warning", "info"]
    count: int
    """Rows that have it."""
    advice: str

    @property
    def line(self) -> str:
        return f"{self.severity}: {self.kind.replace('_', ' ')}, {self.count} rows; {self.advice}"


class Audit(Record):
    """What the rows are like."""

    rows: int
    median_words: int
    longest_words: int
    findings: tuple[AuditFinding, ...]
    verdict: Literal["fit", "fixable", "unfit"]
    """`fixable`: the data engineer's own steps mend it."""


def audit(rows: Sequence[Row]) -> Audit:
    """Looks at all rows: blank parts, doubled choices, duplicates, contradictions, length in words."""
    usable = [row for row in rows if not is_empty(row) and not is_ambiguous(row)]
    distinct = {identity(row): row for row in usable}
    answers = Counter(asked(row) for row in distinct.values() if row.choices)
    counted: tuple[AuditFinding, ...] = (
        _finding("empty", "warning", sum(map(is_empty, rows)), "rows without question or answer are left out"),
        _finding("ambiguous", "warning", sum(map(is_ambiguous, rows)), "rows that offer a choice twice are left out"),
        _finding("exact_duplicates", "warning", len(usable) - len(distinct), "the first of each is kept"),
        _finding(
            "contradictions", "warning", sum(count for count in answers.values() if count > 1),
            "these questions come with several answers or explanations: see whether one of them is wrong",
        ),
        _finding(
            "too_few", "error", len(distinct) if len(distinct) < MINIMUM_ROWS else 0,
            f"at least {MINIMUM_ROWS} different rows are needed",
        ),
    )  # fmt: skip
    findings = tuple(finding for finding in counted if finding.count)
    lengths = sorted(len(words(row.text)) for row in rows) or [0]
    too_few = len(distinct) < MINIMUM_ROWS
    return Audit(
        rows=len(rows),
        median_words=lengths[len(lengths) // 2],
        longest_words=lengths[-1],
        findings=findings,
        verdict="unfit" if too_few else "fixable" if findings else "fit",
    )


def audit_letters(rows: Sequence[Row]) -> list[AuditFinding]:
    """Letters that hold far more right answers than their share. For rows in the order in which they are trained on."""
    multiple_choice = [row for row in rows if row.choices]
    if len(multiple_choice) < MINIMUM_ROWS:
        return []
    even = sum(1 / len(row.choices or ()) for row in multiple_choice)
    counts = Counter(row.answer for row in multiple_choice)
    return [
        _finding(
            "letters", "warning", count, f"{letter} is right in {count} rows, {even:.0f} would be even; balance them"
        )
        for letter, count in sorted(counts.items(), key=str)
        if count > CROWDED * even + 1
    ]


def _finding(
    kind: Literal["empty", "ambiguous", "exact_duplicates", "contradictions", "letters", "too_few"],
    severity: Literal["error", "warning", "info"],
    count: int,
    advice: str,
) -> AuditFinding:
    return AuditFinding(kind=kind, severity=severity, count=count, advice=advice)
