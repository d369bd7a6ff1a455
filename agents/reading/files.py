"""Reads a data file into records, one {column: value} a row; what is wrong names the line where there are lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agents.reading.batches import Batch as Batch
from agents.reading.batches import Fault as Fault
from agents.reading.batches import FaultKind as FaultKind
from agents.reading.column_files import read_arrow, read_csv, read_parquet, read_tsv
from agents.reading.json_files import read_json, read_jsonl
from agents.reading.streams import COMPRESSIONS, regular_file
from shared_memory.errors import BadInput

Record = Mapping[str, Any]
"""A row as it stands in the file: column → value."""
BATCH = 4096
"""Rows of a batch: enough for work by columns, few enough to stay in a processor's cache."""


def read_batches(path: Path, *, size: int = BATCH) -> Iterator[Batch]:
    """The rows of a data file, `size` at a time, in bounded memory; what cannot be read is a fault of its batch.

    Raises BadInput where the file cannot be read at all: missing, no file, empty, not what its ending says; and, when
    it comes to the end, where the file changed meanwhile. Nothing in a file is ever run.
    """
    reader = _reader(path)
    found = False
    for batch in reader(path, size):
        if batch.records or batch.faults:
            found = True
            yield batch
    if not found:
        raise BadInput(f"{path} has no rows; give a file with data")


def read_records(path: Path) -> list[Record]:
    """The rows of a data file, at least one; NaN and Infinity are read as no value.

    Raises BadInput at the first fault, and as `read_batches` does.
    """
    records: list[Record] = []
    for batch in read_batches(path):
        for fault in batch.faults:
            if fault.kind != "not_finite":
                raise BadInput(f"{place(path, fault.number)} {fault.detail}; {mend(fault.kind)}")
        records += batch.records
    return records


def mend(kind: FaultKind) -> str:
    """What to do about a fault."""
    return _MENDS[kind]


def place(path: Path, number: int) -> str:
    """`rows.jsonl, line 7`; a file without lines has rows. 0 is the file as a whole: `rows.jsonl:`."""
    if not number:
        return f"{path}:"
    return f"{path}, {'line' if ending_of(path) in (*_LINES, *_packed(_LINES)) else 'row'} {number}"


def short_place(name: str, number: int) -> str:
    """`rows.jsonl:7` for a line, `rows.csv row 7` for a row; 0 is the file as a whole."""
    if not number:
        return name
    ending = ending_of(Path(name))
    in_rows = ending in READERS and ending not in (*_LINES, *_packed(_LINES))
    return f"{name} row {number}" if in_rows else f"{name}:{number}"


def digest_of(path: Path) -> str:
    """sha256 of the file. Raises BadInput where it cannot be read."""
    with regular_file(path) as stream:
        try:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise BadInput(f"{path} cannot be read ({error.strerror or error}); check its disk") from error


def _reader(path: Path) -> Callable[[Path, int], Iterator[Batch]]:
    ending = ending_of(path)
    if reader := READERS.get(ending):
        return reader
    if ending in _RUN_CODE:
        raise BadInput(f"{path} could run code when it is loaded, so it is not; write its rows as JSONL or Parquet")
    raise BadInput(f"{path} is not a data file that can be read; give a {', '.join(ENDINGS)} file, or a folder of them")


def ending_of(path: Path) -> str:
    """`.jsonl`, or `.jsonl.gz` where it is packed."""
    compression = path.suffix.lower()
    return Path(path.stem).suffix.lower() + compression if compression in COMPRESSIONS else compression


def _packed(endings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(ending + compression for ending in endings for compression in COMPRESSIONS)


_LINES = (".jsonl", ".ndjson")
_RUN_CODE = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz", ".py"}
_TEXT: dict[str, Callable[[Path, int], Iterator[Batch]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
}
_COLUMNS: dict[str, Callable[[Path, int], Iterator[Batch]]] = {
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
    ".ipc": read_arrow,
}
ENDINGS = (*_TEXT, *_COLUMNS)
"""Of files that are read; those of text also packed as .gz, .bz2, .xz or .zst."""
READERS = _TEXT | _COLUMNS | {ending + packed: read for ending, read in _TEXT.items() for packed in COMPRESSIONS}
_MENDS: dict[FaultKind, str] = {
    "not_json": "mend or remove that line",
    "not_an_object": "put one {column: value} object there",
    "not_utf8": "save the file as UTF-8",
    "line_too_long": "remove it, or part it into rows",
    "truncated": "get the file anew, for what follows is missing",
    "malformed": "mend that row, or write the file anew",
    "unreadable": "get the file anew, or write it again",
}
