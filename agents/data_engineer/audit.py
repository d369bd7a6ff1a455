"""What is wrong with training rows before anything is done to them, and with their letters afterwards."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal

from agents.data_engineer.dedup import drop_near_duplicates
from agents.data_engineer.filters import (
    asked,
    drop_exact_duplicates,
    identity,
    is_ambiguous,
    is_empty,
    is_identical_pair,
)
from agents.data_engineer.formats import Row, Table, read_tables, trains
from agents.data_engineer.proposal import NEAR_DUPLICATES
from agents.data_engineer.words import words
from shared_memory.errors import BadInput
from shared_memory.records import Record

MINIMUM_ROWS = 8
"""Rows without which nothing is trained: fewer are a mistake, not a data set."""
CROWDED = 1.5
"""A letter that holds this many times its even share teaches the letter instead of the answer."""


EXAMPLES = 3
"""Rows that a finding shows."""
SHOWN = 80
"""Characters of a row that an example shows."""

Kind = Literal["empty", "ambiguous", "identical_pairs", "exact_duplicates", "contradictions", "letters", "too_few"]


class AuditFinding(Record):
    """One kind of fault."""

    kind: Kind
    severity: Literal["error", "warning", "info"]
    count: int
    """Rows that have it."""
    advice: str
    examples: tuple[str, ...] = ()
    """Ids of the first rows that have it."""

    @property
    def line(self) -> str:
        return f"{self.severity}: {self.kind.replace('_', ' ')}, {self.count} rows; {self.advice}"


class Tokens(Record):
    """How long the rows are."""

    tokenizer: Literal["words"] = "words"
    """Words and numbers, as `words.words` counts them."""
    p50: int
    p95: int
    max: int
    total: int


class Audit(Record):
    """What the rows are like."""

    rows: int
    tokens: Tokens
    findings: tuple[AuditFinding, ...]
    verdict: Literal["fit", "fixable", "unfit"]
    """`fixable`: the data engineer's own steps mend it."""


def audit(rows: Sequence[Row]) -> Audit:
    """Looks at all rows: blank parts, doubled choices, duplicates, contradictions, length in words."""
    first: dict[Hashable, Row] = {}
    repeated = []
    for row in _usable(rows):
        if (key := identity(row)) in first:
            repeated.append(row)
        first.setdefault(key, row)
    distinct = list(first.values())
    answers = Counter(asked(row) for row in distinct if row.choices)
    too_few = len(distinct) < MINIMUM_ROWS
    findings = _found(
        _finding("empty", "warning", filter(is_empty, rows), "rows without question or answer are left out"),
        _finding("ambiguous", "warning", filter(is_ambiguous, rows), "rows that offer a choice twice are left out"),
        _finding(
            "identical_pairs", "warning", (row for row in rows if is_identical_pair(row) and not is_empty(row)),
            "pairs whose chosen and rejected replies are the same are left out",
        ),
        _finding("exact_duplicates", "warning", repeated, "the first of each is kept"),
        _finding(
            "contradictions", "warning", (row for row in distinct if row.choices and answers[asked(row)] > 1),
            "these questions come with several answers or explanations: see whether one of them is wrong",
        ),
        _finding("too_few", "error", distinct if too_few else (), f"at least {MINIMUM_ROWS} different rows are needed"),
    )  # fmt: skip
    return Audit(
        rows=len(rows),
        tokens=_tokens(rows),
        findings=findings,
        verdict="unfit" if too_few else "fixable" if findings else "fit",
    )


def audit_sources(sources: Sequence[str]) -> dict[str, Any]:
    """What `postgrad audit` says of data files, as JSON; scripts rely on its keys.

    Raises BadInput where a source cannot be read, see `read_tables`, or where there is none.
    """
    started = time.perf_counter()
    if not sources:
        raise BadInput("there is nothing to audit; name a data file")
    tables = read_tables(sources)
    rows = [row for table in tables for row in table.rows]
    report = audit(rows)
    distinct, exact = drop_exact_duplicates(_usable(rows))
    _, near = drop_near_duplicates(distinct, NEAR_DUPLICATES)
    shown = {row.id: _shown(table, row) for table in tables for row in table.rows}
    return {
        "rows": len(rows),
        "columns": list({column: None for table in tables for column in table.columns}),
        "format": ", ".join({table.layout.format: None for table in tables}),
        "methods": list(trains(rows)),
        "tokens": report.tokens.plain(),
        "duplicates": {"exact": exact.rows_in - exact.rows_out, "near": near.rows_in - near.rows_out},
        "contamination": [],
        "findings": [
            finding.plain() | {"examples": [shown[row] for row in finding.examples]} for finding in report.findings
        ],
        "verdict": report.verdict,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _shown(table: Table, row: Row) -> str:
    """`rows.jsonl, row 17: What is the net force …`."""
    text = " ".join(row.text.split())
    return f"{table.path.name}, row {row.id.partition(':')[2]}: {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}"


def _usable(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not (is_empty(row) or is_ambiguous(row) or is_identical_pair(row))]


def _tokens(rows: Sequence[Row]) -> Tokens:
    """Percentiles by nearest rank."""
    lengths = sorted(len(words(row.text)) for row in rows) or [0]
    p50, p95 = (lengths[math.ceil(share * len(lengths)) - 1] for share in (0.5, 0.95))
    return Tokens(p50=p50, p95=p95, max=lengths[-1], total=sum(lengths))


def audit_letters(rows: Sequence[Row]) -> list[AuditFinding]:
    """Letters that hold far more right answers than their share. For rows in the order in which they are trained on."""
    multiple_choice = [row for row in rows if row.choices]
    if len(multiple_choice) < MINIMUM_ROWS:
        return []
    even = sum(1 / len(row.choices or ()) for row in multiple_choice)
    counts = Counter(row.answer for row in multiple_choice)
    return list(
        _found(
            *(
                _finding(
                    "letters", "warning", (row for row in multiple_choice if row.answer == letter),
                    f"{letter} is right in {count} rows, {even:.0f} would be even; balance them",
                )
                for letter, count in sorted(counts.items(), key=str)
                if count > CROWDED * even + 1
            )
        )
    )  # fmt: skip


def _finding(
    kind: Kind, severity: Literal["error", "warning", "info"], rows: Iterable[Row], advice: str
) -> AuditFinding:
    ids = tuple(row.id for row in rows)
    return AuditFinding(kind=kind, severity=severity, count=len(ids), advice=advice, examples=ids[:EXAMPLES])


def _found(*findings: AuditFinding) -> tuple[AuditFinding, ...]:
    return tuple(finding for finding in findings if finding.count)
