"""Reads a data file into records, one {column: value} a row; errors name the line where there are lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from shared_memory.errors import BadInput

Record = Mapping[str, Any]
"""A row as it stands in the file: column → value."""


def read_records(path: Path) -> list[Record]:
    """The rows of a JSONL, JSON, CSV, TSV or Parquet file, at least one.

    Raises BadInput where the file is missing, empty, unreadable, or not what its ending says.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path} is not a data file that can be read; give a {', '.join(_READERS)} file")
    if not path.is_file():
        raise BadInput(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    try:
        records = reader(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error
    if not records:
        raise BadInput(f"{path} has no rows; give a file with data")
    return records


def digest_of(path: Path) -> str:
    """sha256 of the file. Raises BadInput where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); check its path and permissions") from error


def _read_jsonl(path: Path) -> list[Record]:
    """Line by line: polars would turn columns of mixed types into strings, and names no line that is wrong."""
    with path.open("rb") as stream:
        return [_json_object(path, line, number) for number, line in enumerate(stream, start=1) if line.strip()]


def _json_object(path: Path, line: bytes, number: int) -> Record:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{path}, line {number} is not JSON ({_first_line(error)}); {_mend(error, 'mend or remove that line')}"
        ) from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}, line {number} is not a JSON object; put one {{column: value}} object on each line")
    return value


def _read_json(path: Path) -> list[Record]:
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        hint = _mend(error, "mend it, or call it .jsonl if every line is an object")
        raise BadInput(f"{path} is not JSON ({_first_line(error)}); {hint}") from error
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise BadInput(f"{path} is not a list of JSON objects; write it as [{{column: value}}, …]")
    return value


def _read_csv(path: Path, separator: str = ",") -> list[Record]:
    """All columns as text, so that `007` and `1e3` stay what they are."""
    return _by_polars(
        path, "CSV", lambda: pl.scan_csv(path, separator=separator, infer_schema=False, glob=False).collect()
    )


def _read_tsv(path: Path) -> list[Record]:
    return _read_csv(path, separator="\t")


def _read_parquet(path: Path) -> list[Record]:
    return _by_polars(path, "Parquet", lambda: pl.read_parquet(path, glob=False))


def _by_polars(path: Path, kind: str, read: Callable[[], pl.DataFrame]) -> list[Record]:
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty; give a file with data")
    try:
        return list(read().iter_rows(named=True))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # a scrambled file makes polars panic
        hint = _mend(error, "write it anew or convert it")
        raise BadInput(f"{path} is not valid {kind} ({_first_line(error)}); {hint}") from error


def _mend(error: BaseException, otherwise: str) -> str:
    """What to do about a file that cannot be read; polars has no error of its own for text in another encoding."""
    return "save it as UTF-8" if "utf-8" in str(error).lower() else otherwise


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


_READERS: dict[str, Callable[[Path], list[Record]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
