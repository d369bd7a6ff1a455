"""Reads the sources of an audit batch by batch, in bounded memory, and shows rows of long ago again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agents.data_engineer.checks.check import AuditBatch, Unusable, shown
from agents.data_engineer.checks.findings import Example
from agents.data_engineer.formats.rows import Row
from agents.data_engineer.formats.tables import Converter, UnusableRow, converter_of
from agents.data_engineer.reading.batches import Batch
from agents.data_engineer.reading.files import mend, read_batches
from agents.data_engineer.reading.sources import Source
from shared_memory.errors import BadInput


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an audit is."""

    stage: str
    """`reading`, or what is done once everything was read."""
    rows: int
    bytes: int
    """About as many bytes were read: of the file at hand its texts are counted."""
    total_bytes: int


OnProgress = Callable[[Progress], None]


@dataclass
class Stream:
    """The records of all sources in order, and what is known of them once `batches` has come to its end."""

    sources: Sequence[Source]
    on_progress: OnProgress | None = None
    splits: Counter[str] = field(default_factory=Counter)
    """Split → its rows, those that could not be read among them."""
    formats: list[str] = field(default_factory=list)
    failed: list[tuple[Source, BadInput]] = field(default_factory=list)
    """Sources that could not be read, or not to their end."""
    rows: int = 0
    """All rows, those that could not be read among them."""
    _starts: list[int] = field(default_factory=list)
    """For each source the ordinal of its first record."""

    def batches(self) -> Iterator[AuditBatch]:
        """Every batch, once. Raises BadInput where nothing at all could be read: it is the first source's."""
        ordinal, read, total = 0, 0, sum(_size(source) for source in self.sources)
        for number, source in enumerate(self.sources, start=1):
            self._starts.append(ordinal)
            texts = 0
            try:
                for batch in self._of(source, number, ordinal):
                    ordinal += len(batch.records)
                    yield batch
                    if self.on_progress:
                        texts = min(_size(source), texts + int(batch.texts.str.len_bytes().sum()))
                        self.on_progress(Progress("reading", self.rows, read + texts, total))
            except BadInput as error:
                self.failed.append((source, error))
            read += _size(source)
        if self.failed and not ordinal:
            raise self.failed[0][1]

    def _of(self, source: Source, number: int, ordinal: int) -> Iterator[AuditBatch]:
        convert: Converter | None = None
        for batch in read_batches(source.path):
            if convert is None and batch.records:
                convert = _converter(source, batch)
            found = _converted(source, number, ordinal, batch, convert)
            if convert is not None and convert.layout.format not in self.formats:
                self.formats.append(convert.layout.format)
            lost = sum(fault.kind not in ("not_finite", "truncated") for fault in batch.faults)
            self.rows += len(batch.records) + lost
            self.splits[source.split] += len(batch.records) + lost
            ordinal += len(batch.records)
            yield found
        if convert is None:
            raise BadInput(f"{source.path} has no row that can be read: {_first_fault(source)}")

    def announce(self, stage: str) -> None:
        """Tell what is done after reading."""
        if self.on_progress:
            total = sum(_size(source) for source in self.sources)
            self.on_progress(Progress(stage, self.rows, total, total))

    def lookup(self, ordinals: Sequence[int]) -> tuple[Example, ...]:
        """Show records by their ordinals: their files are read again as far as need be."""
        found: dict[int, Example] = {}
        for source, start, end in zip(self.sources, self._starts, [*self._starts[1:], math.inf], strict=True):
            if wanted := {at for at in ordinals if start <= at < end}:
                found |= _shown_again(source, start, wanted)
        return tuple(found[at] for at in ordinals if at in found)


def _converter(source: Source, batch: Batch) -> Converter:
    """By the columns that most rows of the first batch have: a few rows of another kind do not make them unclear.

    Raises BadInput where neither these nor the columns of all rows together are understood.
    """
    (usual, _), *_ = Counter(tuple(record) for record in batch.records).most_common(1)
    with suppress(BadInput):
        return converter_of(source.path, usual)
    return converter_of(source.path, list({column: None for record in batch.records for column in record}))


def _converted(source: Source, number: int, first: int, batch: Batch, convert: Converter | None) -> AuditBatch:
    rows: list[Row] = []
    places: list[int] = []
    unusable: list[Unusable] = []
    for place, record in enumerate(batch.records):
        try:
            rows.append(convert(record, f"{number}:{batch.numbers[place]}"))  # type: ignore[misc]  # there are records
        except UnusableRow as error:
            unusable.append(Unusable(place, error.kind, str(error)))
        else:
            places.append(place)
    return AuditBatch(
        source=source.name,
        measured=source.is_measured_on,
        first=first,
        numbers=batch.numbers,
        records=batch.records,
        rows=rows,
        places=places,
        layout=convert.layout if convert else None,
        faults=batch.faults,
        unusable=unusable,
    )


def _shown_again(source: Source, ordinal: int, wanted: set[int]) -> dict[int, Example]:
    convert: Converter | None = None
    found: dict[int, Example] = {}
    for batch in read_batches(source.path):
        if convert is None and batch.records:
            convert = _converter(source, batch)
        for place in sorted(at - ordinal for at in wanted if ordinal <= at < ordinal + len(batch.records)):
            text = ""
            with suppress(UnusableRow):
                text = convert(batch.records[place]).text if convert else ""
            found[ordinal + place] = Example(source=source.name, row=batch.numbers[place], text=shown(text))
        ordinal += len(batch.records)
        if len(found) == len(wanted):
            break
    return found


def _first_fault(source: Source) -> str:
    """What is wrong with a source in which nothing is right."""
    fault = next((fault for batch in read_batches(source.path) for fault in batch.faults), None)
    return f"row {fault.number} {fault.detail}; {mend(fault.kind)}" if fault else "give another file"


def _size(source: Source) -> int:
    try:
        return source.path.stat().st_size
    except OSError:
        return 0
