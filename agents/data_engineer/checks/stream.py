"""Reads the sources of an audit batch by batch, in bounded memory, and shows rows of long ago again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agents.data_engineer.checks.check import AuditBatch, Unusable, shown
from agents.data_engineer.checks.findings import Example
from agents.data_engineer.formats.rows import Row
from agents.data_engineer.formats.tables import Converter, UnusableRow, converter_of
from agents.reading.batches import Batch
from agents.reading.files import mend, read_batches
from agents.reading.sources import Source
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


@dataclass(frozen=True, slots=True)
class Span:
    """What was read of one source."""

    source: Source
    first: int
    """Ordinal of its first record."""
    records: int
    rows: int
    """All of its rows, those that could not be read among them."""

    @property
    def end(self) -> int:
        """The ordinal after that of its last record."""
        return self.first + self.records


def to_train_on(spans: Sequence[Span]) -> list[Span]:
    """Those whose source is not there to measure on; all where every one is."""
    return [span for span in spans if not span.source.is_measured_on] or list(spans)


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
    spans: list[Span] = field(default_factory=list)
    """One for each source, also where nothing of it could be read."""

    def batches(self) -> Iterator[AuditBatch]:
        """Every batch, once. Raises BadInput where nothing at all could be read: it is the first source's."""
        ordinal, read, total = 0, 0, sum(_size(source) for source in self.sources)
        for number, source in enumerate(self.sources, start=1):
            first, before, texts = ordinal, self.rows, 0
            try:
                for batch in self._of(source, number, ordinal):
                    ordinal += len(batch.records)
                    yield batch
                    if self.on_progress:
                        texts = min(_size(source), texts + int(batch.texts.str.len_bytes().sum()))
                        self.on_progress(Progress("reading", self.rows, read + texts, total))
            except BadInput as error:
                self.failed.append((source, error))
            self.spans.append(Span(source, first, ordinal - first, self.rows - before))
            read += _size(source)
        if self.failed and not ordinal:
            raise self.failed[0][1]

    def _of(self, source: Source, number: int, ordinal: int) -> Iterator[AuditBatch]:
        convert: Converter | None = None
        for batch in read_batches(source.path):
            if convert is None and batch.records:
                convert = converter_of(source.path, batch.records)
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
        for span in self.spans:
            if wanted := {at for at in ordinals if span.first <= at < span.end}:
                found |= _shown_again(span.source, span.first, wanted)
        return tuple(found[at] for at in ordinals if at in found)


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
            convert = converter_of(source.path, batch.records)
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
    if fault is None:
        return "give another file"
    where = f"row {fault.number} " if fault.number else ""
    return f"{where}{fault.detail}; {mend(fault.kind)}"


def _size(source: Source) -> int:
    try:
        return source.path.stat().st_size
    except OSError:
        return 0
