"""Reads the files that have columns: CSV and TSV as text, Parquet and Arrow IPC with their types."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.reading.batches import BATCH_BYTES, Batch, Batches, FaultKind
from agents.reading.streams import (
    EXPANDS_AT_MOST,
    LINE_LIMIT,
    READ_ANYWAY,
    Damaged,
    first_line,
    lines,
    opened,
    skip_byte_order_mark,
)
from shared_memory.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

_NO_VALUE = (ValueError, OverflowError)
"""What pyarrow raises for a value that is broken, or has no form in Python."""
_BROKEN = (*_NO_VALUE, MemoryError)
"""What it raises for a scrambled file beside errors of its own: one may claim to hold more than there is memory."""


_SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas"}


def read_csv(path: Path, size: int) -> Iterator[Batch]:
    """Comma-separated text with a header; all cells are text, so that `007` and `1e3` stay what they are."""
    return _read_separated(path, size, ",")


def read_tsv(path: Path, size: int) -> Iterator[Batch]:
    """The same, separated by tabs."""
    return _read_separated(path, size, "\t")


def _read_separated(path: Path, size: int, separator: str) -> Iterator[Batch]:
    with opened(path) as stream:
        text = _Lines(lines(stream))
        csv.field_size_limit(LINE_LIMIT)  # the module has one limit for all
        rows = csv.reader(text, delimiter=separator, strict=True)
        try:
            skip_byte_order_mark(stream, path)
            header = next(rows, None)
        except (csv.Error, Damaged) as error:
            raise BadInput(f"{path} has no header that can be read ({first_line(error)}); write it anew") from error
        if header is None:
            raise BadInput(f"{path} is empty; give a file with data")
        columns = _named(path, header)
        batches, number = Batches(size), 0
        while True:
            if batches.full:
                yield batches.take()
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                break
            except Damaged as error:
                batches.fault(0, "truncated", str(error))
                break
            except csv.Error as error:
                ended = "unexpected end of data" in str(error)
                detail = "opens a quote that the file never closes" if ended else f"is not CSV ({error})"
                batches.fault(number, "truncated" if ended else "malformed", detail)
                continue
            _add(batches, number, columns, row, text.trouble())
        yield batches.take()


def _add(batches: Batches, number: int, columns: Sequence[str], row: Sequence[str], trouble: str) -> None:
    if trouble == "line_too_long":
        batches.fault(number, "line_too_long", f"has a line of more than {LINE_LIMIT // 2**20} MiB")
    elif trouble:
        batches.fault(number, "not_utf8", "is not UTF-8 text")
    elif row and len(row) != len(columns):
        batches.fault(number, "malformed", f"has {len(row)} cells under {len(columns)} columns")
    else:
        cells = row or [""] * len(columns)
        batches.add(number, dict(zip(columns, cells, strict=True)), sum(map(len, cells)))


class _Lines:
    """Lines as text for the csv module, which wants no bytes; what is wrong with one is told afterwards."""

    def __init__(self, raw: Iterator[bytes | None]) -> None:
        self._raw, self._trouble = raw, ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._raw)
        if line is None:
            self._trouble = "line_too_long"
            return "\n"
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._trouble = "not_utf8"
            return line.decode(errors="replace")

    def trouble(self) -> str:
        """What was wrong with the lines since the last call; empty for nothing."""
        trouble, self._trouble = self._trouble, ""
        return trouble


def _named(path: Path, header: Sequence[str]) -> list[str]:
    """The columns of a header. Raises BadInput where two have one name, or none has any."""
    if not any(name.strip() for name in header):
        raise BadInput(f"{path} has no header: its first line is blank; put the names of the columns there")
    other = next((sign for sign in _SEPARATORS if len(header) == 1 and sign in header[0]), "")
    if other:
        raise BadInput(
            f"{path} seems to have {_SEPARATORS[other]} between its columns; save it as .csv with commas, or as .tsv "
            "with tabs"
        )
    _require_distinct(path, [name for name in header if name])
    return [name or ("" if position == 0 else f"column {position + 1}") for position, name in enumerate(header)]


def _require_distinct(path: Path, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadInput(f"{path} has more than one column `{twice[0]}`; rename or drop all but one")


def read_parquet(path: Path, size: int) -> Iterator[Batch]:
    """A Parquet file, a part of a row group at a time."""
    import pyarrow.parquet as pq

    with opened(path) as stream:
        with _not_valid(path, "Parquet"):
            file = pq.ParquetFile(stream)
            meta = file.metadata
            expanded = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
            _require_distinct(path, file.schema_arrow.names)
        if expanded > max(READ_ANYWAY, EXPANDS_AT_MOST * path.stat().st_size):
            raise BadInput(
                f"{path} expands to {expanded // 2**20:,} MiB, more than {EXPANDS_AT_MOST} times its size; "
                "write it anew if you trust it"
            )
        rows = max(1, min(size, BATCH_BYTES * max(meta.num_rows, 1) // max(expanded, 1)))
        yield from _converted(lambda: file.iter_batches(batch_size=rows), size)


def read_arrow(path: Path, size: int) -> Iterator[Batch]:
    """An Arrow IPC file or stream, as `datasets.save_to_disk` and Feather write them."""
    import pyarrow.ipc as ipc

    with opened(path) as stream:
        with _not_valid(path, "Arrow"):
            whole = stream.read(6) == b"ARROW1"
            stream.seek(0)
            reader = ipc.open_file(stream) if whole else ipc.open_stream(stream)
            _require_distinct(path, reader.schema.names)
        tables = (reader.get_batch(at) for at in range(reader.num_record_batches)) if whole else reader
        yield from _converted(lambda: iter(tables), size)


@contextmanager
def _not_valid(path: Path, kind: str) -> Iterator[None]:
    """BadInput instead of what pyarrow raises for a file that is something else."""
    import pyarrow as pa

    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty; give a file with data")
    try:
        yield
    except (pa.ArrowException, OSError, *_BROKEN) as error:
        raise BadInput(f"{path} is not valid {kind} ({first_line(error)}); write it anew or convert it") from error


def _converted(tables: Callable[[], Iterator[pa.RecordBatch]], size: int) -> Iterator[Batch]:
    """Rows of Arrow's batches; where one cannot be read, what was before it stands, and a fault says where it broke."""
    import pyarrow as pa

    batches, number = Batches(size), 0
    try:
        for table in tables():
            for start in range(0, table.num_rows, size):
                _add_table(batches, number + start, table.slice(start, size))
                if batches.full:
                    yield batches.take()
            number += table.num_rows
    except (pa.ArrowException, OSError, *_BROKEN) as error:
        batches.fault(number + 1, "unreadable", f"and those after it cannot be read ({first_line(error)})")
    yield batches.take()


def _add_table(batches: Batches, number: int, table: pa.RecordBatch) -> None:
    """Add the rows, which count from `number` + 1; where a value has no Python form, each row on its own."""
    try:
        records = _records(table)
    except _NO_VALUE:
        for position in range(table.num_rows):
            try:
                (record,) = _records(table.slice(position, 1))
            except _NO_VALUE as error:
                kind: FaultKind = "not_utf8" if "UTF8" in str(error) else "malformed"
                batches.fault(number + position + 1, kind, f"holds what cannot be read ({first_line(error)})")
            else:
                batches.add(number + position + 1, record)
        return
    for position, record in enumerate(records, start=1):
        batches.add(number + position, record)


def _records(table: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows as Python values; times in nanoseconds, which Python has not, in microseconds.

    Arrow maps a file into memory as it is: offsets that lead astray must be found before they are followed.
    """
    import pyarrow as pa

    table.validate(full=True)
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            micro = table.column(at).cast(pa.timestamp("us", field.type.tz), safe=False)
            table = table.set_column(at, field.name, micro)
    records: list[dict[str, Any]] = table.to_pylist()
    return records
