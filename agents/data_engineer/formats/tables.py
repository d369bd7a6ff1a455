"""Turns every format that is understood into one type of row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.data_engineer.formats.cells import Cells, UnusableKind
from agents.data_engineer.formats.cells import UnusableRow as UnusableRow
from agents.data_engineer.formats.chat import from_chat, from_pair, from_text
from agents.data_engineer.formats.choices import from_choices, from_distractors, from_gpqa
from agents.data_engineer.formats.columns import Format, Layout, layout_of
from agents.data_engineer.formats.methods import trains as trains
from agents.data_engineer.formats.preferences import brings_its_ranks, from_preference, from_ranked
from agents.data_engineer.formats.rows import Message as Message
from agents.data_engineer.formats.rows import Row as Row
from agents.reading.batches import ENDING
from agents.reading.files import FaultKind, mend, place, read_batches
from agents.reading.sources import Source, to_train_on
from shared_memory.errors import BadInput

TOLERATED = 0.01
"""Share of a file's rows that may be unreadable or unusable where they may be left out; more is no accident."""

_CONVERTERS: dict[Format, Callable[[Cells], Row]] = {
    "gpqa": from_gpqa,
    "distractors": from_distractors,
    "multiple_choice": from_choices,
    "preference": from_preference,
    "ranked": from_ranked,
    "messages": from_chat,
    "sharegpt": from_chat,
    "prompt_completion": from_pair,
    "alpaca": from_pair,
    "question_answer": from_pair,
    "text": from_text,
}


class Converter:
    """Makes rows of the records of one file; a column that turns up later is taken in where the format stays."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self._columns = dict.fromkeys(columns)
        self._refused: set[tuple[str, ...]] = set()
        layout = layout_of(path, columns)
        self._named = layout.format
        """By the names alone: what is ranked may show in the values only."""
        self._understand(layout)

    def __call__(self, record: Mapping[str, Any], id: str = "") -> Row:
        """The row of a record. Raises UnusableRow where it holds something else than the columns promise."""
        if not record.keys() <= self._columns.keys():
            self._learn(tuple(record))
        if record and self._used.isdisjoint(record):
            raise UnusableRow(
                "other_columns",
                f"it has the columns {', '.join(record)[:80]} and none of {', '.join(self.layout.columns.values())}",
            )
        answer = self.layout.columns.get("answer")
        if answer is not None and type(record.get(answer)) is list and brings_its_ranks(record[answer]):
            columns = {"answers" if part == "answer" else part: name for part, name in self.layout.columns.items()}
            self._understand(Layout("ranked", columns))
        return self._convert(Cells(self.layout, record, id))

    @property
    def columns(self) -> tuple[str, ...]:
        """All that were seen so far."""
        return tuple(self._columns)

    def _understand(self, layout: Layout) -> None:
        self.layout = layout
        self._convert = _CONVERTERS[layout.format]
        self._used = frozenset(layout.columns.values())

    def _learn(self, columns: tuple[str, ...]) -> None:
        """Take new columns in. Raises UnusableRow where, with them, the file would be something else or unclear.

        They are judged beside the columns that are in use, so that it costs no more in a file of a million names.
        """
        new = [column for column in columns if column not in self._columns]
        if columns not in self._refused:
            try:
                layout = layout_of(self._path, [*self.layout.columns.values(), *new])
            except BadInput:
                layout = None
            if layout is not None and layout.format == self._named:
                self._columns.update(dict.fromkeys(new))
                self._understand(layout)
                return
            self._refused.add(columns)
        raise UnusableRow(
            "other_columns",
            f"it has the columns {', '.join(new)[:80]}, which make it another format than the other rows",
        )


def converter_of(path: Path, records: Sequence[Mapping[str, Any]]) -> Converter:
    """What makes rows of a file that begins with these records, at least one.

    By the columns that most of them have: a few rows of another kind do not make them unclear. Raises BadInput where
    neither these nor the columns of all together are understood.
    """
    (usual, _), *_ = Counter(tuple(record) for record in records).most_common(1)
    with suppress(BadInput):
        return Converter(path, usual)
    return Converter(path, list({column: None for record in records for column in record}))


@dataclass(frozen=True, slots=True)
class Table:
    """A source as it was understood."""

    path: Path
    columns: tuple[str, ...]
    layout: Layout
    rows: list[Row]
    source: Source
    left_out: Mapping[FaultKind | UnusableKind, int] = field(default_factory=dict)
    """What was wrong with rows that are not among `rows` → how many; NaN and Infinity leave no row out."""


def read_sources(sources: Sequence[str]) -> list[Row]:
    """The rows of all sources in order, under ids that no two of them share; see `read_tables`.

    Up to TOLERATED of a file's rows is left out, as where a data set is made: the same rows have the same ids.
    """
    return [row for table in read_tables(sources, tolerated=TOLERATED) for row in table.rows]


def read_rows(path: Path) -> list[Row]:
    """The rows of one file, all of which have to be usable; see `read_tables`."""
    return [row for table in read_tables([str(path)]) for row in table.rows]


def read_tables(sources: Sequence[str], *, tolerated: float = 0.0) -> list[Table]:
    """The files behind `sources` (see `sources.resolve`) that are there to train on, each with its rows.

    Rows count from 1, a header aside; in JSONL they are lines. Up to the share `tolerated` of a file's rows may be
    unreadable or unusable, and is left out. Raises BadInput, with the number of the first such row, where they are
    more, for a file that cannot be read or not to its end, and for columns that are not understood.
    """
    return [_read_table(source, number, tolerated) for number, source in enumerate(to_train_on(sources), start=1)]


def _read_table(source: Source, number: int, tolerated: float) -> Table:
    path, rows = source.path, list[Row]()
    left_out: Counter[FaultKind | UnusableKind] = Counter()
    convert: Converter | None = None
    first = ""
    for batch in read_batches(path):
        for fault in batch.faults:
            if fault.kind != "not_finite":
                left_out[fault.kind] += 1
                told = f"{place(path, fault.number)} {fault.detail}; {mend(fault.kind)}"
                if fault.kind in ENDING:
                    raise BadInput(told)
                first = first or told
        if first and not tolerated:
            raise BadInput(first)
        if convert is None and batch.records:
            convert = converter_of(path, batch.records)
        for at, record in zip(batch.numbers, batch.records, strict=True):
            try:
                rows.append(convert(record, f"{number}:{at}"))  # type: ignore[misc]  # there are records
            except UnusableRow as error:
                left_out[error.kind] += 1
                first = first or f"{path}, row {at}: {error}; mend that row"
        if first and not tolerated:
            raise BadInput(first)
    if left_out.total() > tolerated * (len(rows) + left_out.total()) or convert is None:
        raise BadInput(
            f"{left_out.total()} of {len(rows) + left_out.total()} rows cannot be used, the first: {first}, "
            "or take the copy without them that `postgrad audit DATA --clean FILE` writes"
        )
    return Table(path, convert.columns, convert.layout, rows, source, left_out)
