"""What every check stands on: the batch that it is shown, and the count of the rows that have a fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agents.data_engineer.checks.findings import EXAMPLES, AuditFinding, Example, Kind, Severity
from agents.data_engineer.duplicates.dedup import told
from agents.data_engineer.filters import is_ambiguous, is_empty, is_identical_pair
from agents.data_engineer.formats.columns import Layout
from agents.data_engineer.formats.rows import Row
from agents.data_engineer.tokens import Tokens, hashed_words
from agents.reading.batches import Fault
from shared_memory.redaction import redact

SHOWN = 90
"""Characters of a row that an example shows."""
_LOOKED_AT = 4_000
"""Characters that are searched for secrets before an example is cut out of them."""
_CONTROL = re.compile(r"[\x00-\x1F\x7F-\x9F]")
MUCH = 0.01
"""Share of the rows from which many small faults are a warning: what one row in a hundred says is learned."""
ADDRESS = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
_LOCAL_PART = re.compile(r"[A-Za-z0-9._%+-]+(?=@[A-Za-z0-9-]+\.)")

Ordinals = NDArray[np.int64]
"""Rows of the audit by their place among all that were read, from 0."""
Lookup = Callable[[Sequence[int]], tuple[Example, ...]]
"""Shows rows that were read long ago, by their ordinals."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A record that its format does not allow."""

    place: int
    """Among the records of the batch."""
    kind: Kind
    message: str


@dataclass
class AuditBatch:
    """Some rows of one source, as they stand in it and as training rows."""

    source: str
    """What the source is called."""
    measured: bool
    """Whether it is there to measure on, not to train on."""
    first: int
    """Ordinal of the first record."""
    numbers: Sequence[int]
    """For each record its number in the source."""
    records: Sequence[dict[str, Any]]
    rows: Sequence[Row]
    places: Sequence[int]
    """For each row its place among `records`."""
    layout: Layout | None = None
    faults: Sequence[Fault] = ()
    unusable: Sequence[Unusable] = field(default_factory=list)

    @cached_property
    def texts(self) -> pl.Series:
        """All that each row says."""
        return pl.Series("text", [row.text for row in self.rows], dtype=pl.String)

    @cached_property
    def replies(self) -> pl.Series:
        """What each row teaches to say; of a multiple-choice row the explanation."""
        return pl.Series("reply", [_reply(row) for row in self.rows], dtype=pl.String)

    @cached_property
    def tokens(self) -> Tokens:
        """The words of each row."""
        return hashed_words(self.texts)

    @cached_property
    def told(self) -> Tokens:
        """The words of each row without its system message (see `dedup.told`)."""
        if any(row.prompt and row.prompt[0].role == "system" for row in self.rows):
            return hashed_words([told(row) for row in self.rows])
        return self.tokens

    @cached_property
    def blank(self) -> list[int]:
        """Rows that lack a question or an answer."""
        return [place for place, row in enumerate(self.rows) if is_empty(row)]

    @cached_property
    def ambiguous(self) -> list[int]:
        """Rows that offer a choice twice."""
        return [place for place in self._not_blank if is_ambiguous(self.rows[place])]

    @cached_property
    def identical(self) -> list[int]:
        """Pairs whose replies are the same."""
        return [place for place in self._not_blank if is_identical_pair(self.rows[place])]

    @cached_property
    def sound(self) -> list[int]:
        """Rows without these faults: what is compared with one another."""
        faulty = {*self.ambiguous, *self.identical}
        return [place for place in self._not_blank if place not in faulty]

    @cached_property
    def _not_blank(self) -> list[int]:
        blank = set(self.blank)
        return [place for place in range(len(self.rows)) if place not in blank]

    @cached_property
    def ordinals(self) -> Ordinals:
        """For each row its ordinal."""
        return self.first + np.asarray(self.places, dtype=np.int64)

    def example(self, row: int) -> Example:
        """The row at `row` of `rows`."""
        return Example(source=self.source, row=self.numbers[self.places[row]], text=shown(self.rows[row].text))


def _reply(row: Row) -> str:
    if len(row.completion) == 1:
        return row.completion[0].content
    return "\n".join([message.content for message in row.completion]) or row.passage or row.explanation


def shown(text: str) -> str:
    """The beginning of a text on one line; secrets and the names of mail addresses are masked before it is cut."""
    line = " ".join(_masked(text[:_LOOKED_AT]).split())
    return f"{line[:SHOWN]}…" if len(line) > SHOWN else line


def shown_at(text: str, at: int) -> str:
    """What stands around a place in a text, control characters written out; masked in the same way."""
    before = _masked(text[max(0, at - _LOOKED_AT) : at])[-SHOWN // 3 :]
    after = _masked(text[at : at + _LOOKED_AT])[:SHOWN]
    line = " ".join(f"{before}{after}".split(" ")).replace("\n", " ")
    return ("…" if at > len(before) else "") + _CONTROL.sub(lambda sign: f"\\x{ord(sign[0]):02x}", line)


def _masked(text: str) -> str:
    return _LOCAL_PART.sub("…", redact(text))


def chosen(tokens: Tokens, texts: Sequence[int]) -> Tokens:
    """The tokens of some of the texts."""
    if len(texts) == len(tokens):
        return tokens
    rows = np.asarray(texts, dtype=np.int64)
    lengths = tokens.lengths[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.repeat(tokens.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Tokens(tokens.hashes[places], offsets)


def truths(mask: pl.Series) -> list[int]:
    """The positions where a boolean series is true."""
    return mask.arg_true().to_list() if mask.any() else []


class Tally:
    """Counts the rows that have a fault, and keeps the first few of them."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[Example] = []
        self._ordinals: list[Ordinals] = []

    def add(self, batch: AuditBatch, rows: Sequence[int], show: Callable[[int], str] | None = None) -> None:
        """Positions among `batch.rows` that have it; `show` says of one what to show, else its text begins."""
        if not len(rows):
            return
        self.count += len(rows)
        for row in rows[: EXAMPLES - len(self.examples)]:
            number = batch.numbers[batch.places[row]]
            text = show(row) if show else shown(batch.rows[row].text)
            self.examples.append(Example(source=batch.source, row=number, text=text))
        self._ordinals.append(batch.ordinals[np.asarray(rows)])

    def add_record(self, batch: AuditBatch, place: int, text: str) -> None:
        """A record that is no row, at its place among `batch.records`."""
        self.add_place(batch.source, batch.numbers[place], text)
        self._ordinals.append(np.asarray([batch.first + place]))

    def add_place(self, source: str, number: int, text: str) -> None:
        """A place of a source where nothing was read."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(source=source, row=number, text=shown(text)))

    @property
    def ordinals(self) -> Ordinals:
        return np.concatenate(self._ordinals) if self._ordinals else np.empty(0, np.int64)

    def finding(
        self, kind: Kind, severity: Severity, total: int, advice: str, *, fix: str = ""
    ) -> Iterator[AuditFinding]:
        """The finding, if any row has the fault. `total` is the number of all rows."""
        if self.count:
            yield AuditFinding(
                kind=kind,
                severity=severity,
                count=self.count,
                share=round(self.count / max(1, total), 6),
                examples=tuple(self.examples),
                advice=advice,
                fix=fix,
            )


@dataclass(frozen=True, slots=True)
class Whole:
    """What is known when all rows were read."""

    rows: int
    """All rows, those that could not be read or used among them."""
    lookup: Lookup


def union(parts: Iterable[Ordinals]) -> Ordinals:
    """All ordinals of several, once and in order."""
    found = list(parts)
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


class Check:
    """One family of faults. It is shown every batch in order, then asked what it found."""

    def see(self, batch: AuditBatch) -> None:
        """Look at some rows."""

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        """What was found; to be called once, when all rows were seen."""
        return ()

    def dropped(self) -> Iterable[Ordinals]:
        """The rows that the cleaned copy leaves out because of it; to be called after `findings`."""
        return ()

    def mended(self) -> Iterable[Ordinals]:
        """The rows whose texts the cleaned copy mends because of it (see `cleaned.mend_text`)."""
        return ()
