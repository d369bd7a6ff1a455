"""Rows as they stand in a file, some thousand at a time, and what was wrong between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FaultKind = Literal[
    "not_json", "not_an_object", "not_utf8", "not_finite", "line_too_long", "malformed", "truncated", "unreadable"
]  # fmt: skip
"""not_finite: NaN or Infinity, the row stays · malformed: a CSV row with more or fewer cells than columns, a value of
a Parquet or Arrow file that cannot be read · truncated: the file ends early · unreadable: a part of a Parquet or Arrow
file is scrambled. All but not_finite leave the row out, and those of ENDING nobody knows how many after it."""
ENDING: frozenset[FaultKind] = frozenset({"truncated", "unreadable"})
"""Faults after which a file cannot be read: what was read of it is not the whole."""
BATCH_BYTES = 64 * 2**20
"""Bytes of text from which a batch is full, however few its rows are."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place of a file."""

    number: int
    """Of the line in JSONL, of the row in other files; from 1. 0 for the end of a packed file, which has no row."""
    kind: FaultKind
    detail: str
    """What follows upon `line 7`: `is not JSON (…)`."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive rows of a file."""

    numbers: list[int]
    """For each record its number, as in `Fault`."""
    records: list[dict[str, Any]]
    """Column → value."""
    faults: list[Fault]


@dataclass(slots=True)
class Batches:
    """Gathers rows until there are enough for a batch."""

    size: int
    numbers: list[int] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    weight: int = 0
    """Bytes gathered, where they are known."""

    def add(self, number: int, record: dict[str, Any], weight: int = 0) -> None:
        self.numbers.append(number)
        self.records.append(record)
        self.weight += weight

    def fault(self, number: int, kind: FaultKind, detail: str) -> None:
        self.faults.append(Fault(number, kind, detail))

    @property
    def full(self) -> bool:
        return len(self.records) >= self.size or self.weight >= BATCH_BYTES or len(self.faults) >= self.size

    def take(self) -> Batch:
        """What was gathered, which may be nothing; the next batch starts empty."""
        batch = Batch(self.numbers, self.records, self.faults)
        self.numbers, self.records, self.faults, self.weight = [], [], [], 0
        return batch
