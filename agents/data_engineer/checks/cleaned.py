"""The cleaned copy of audited data: the records as they stand, without those that are left out, and texts mended."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from agents.data_engineer.checks.check import AuditBatch, Ordinals
from agents.data_engineer.checks.stream import Span, to_train_on
from agents.data_engineer.checks.text import CONTROL, CONTROL_BEYOND_ASCII, is_mojibake
from agents.data_engineer.formats.columns import Layout
from agents.reading.files import read_batches
from shared_memory.errors import BadInput, Unavailable
from shared_memory.redaction import redact

_ESCAPES = re.compile(r"\x1B\[[0-9;?]*[ -/]*[@-~]")
"""A terminal's colours: without them `[31m` would stay."""
_CONTROL = re.compile(f"{CONTROL}|{CONTROL_BEYOND_ASCII}")


def require_new(path: Path) -> None:
    """Raise BadInput where there is such a file already, or no such folder: nobody's data are overwritten."""
    if path.exists():
        raise BadInput(f"{path} is there already; give a name for a new file")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{path.absolute().parent} is no folder; make it first, or give another place")


@dataclass
class OneLayout:
    """Whether the rows to train on can stand in one file: of one format, and each part in one column."""

    only_measured: bool
    """Whether all sources are there to measure on."""
    conflict: str = ""
    """Why they cannot; empty where they can."""
    _first: tuple[str, Layout] | None = None

    def see(self, batch: AuditBatch) -> None:
        if self.conflict or batch.layout is None or (batch.measured and not self.only_measured):
            return
        if self._first is None:
            self._first = batch.source, batch.layout
        name, layout = self._first
        columns = batch.layout.columns
        moved = any(columns.get(part, column) != column for part, column in layout.columns.items())
        if moved or layout.format != batch.layout.format:
            self.conflict = f"{name} and {batch.source} have rows of different formats or columns; clean each by itself"


def write_cleaned(path: Path, spans: Sequence[Span], dropped: Ordinals, mended: Ordinals) -> dict[str, Any]:
    """Write the rows to train on as JSONL; returns {path, rows, left_out, unreadable, mended, not_copied}.

    `dropped` and `mended` are ordinals of records, in order and over all sources. Sources to measure on are not copied
    where there are others. Raises Unavailable where the file cannot be written; then there is none. Raises BadInput
    where somebody else made it meanwhile.
    """
    part = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(8)}.part")
    trained = to_train_on(spans)
    counts = {
        "rows": 0,
        "left_out": 0,
        "unreadable": sum(span.rows - span.records for span in trained),
        "mended": 0,
        "not_copied": sum(span.rows for span in spans) - sum(span.rows for span in trained),
    }
    try:
        with part.open("xb") as stream:
            _write(stream, trained, {*dropped.tolist()}, {*mended.tolist()}, counts)
        _publish(part, path)
    except FileExistsError as error:
        raise BadInput(f"{path} was made meanwhile; give a name for a new file") from error
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be written ({error.strerror or error}); make room, or give another place"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return {"path": str(path), **counts}


def _publish(part: Path, path: Path) -> None:
    """Give the finished file its name. Raises FileExistsError where it is taken: a link never replaces a file."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.touch(exist_ok=False)
        part.replace(path)


def _write(
    stream: BinaryIO, spans: Sequence[Span], dropped: set[int], mended: set[int], counts: dict[str, int]
) -> None:
    for ordinal, record in _records(spans):
        if ordinal in dropped:
            counts["left_out"] += 1
            continue
        counts["rows"] += 1
        if ordinal in mended:
            counts["mended"] += 1
            record = mend(record)
        stream.write(_line(record))


def _records(spans: Sequence[Span]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records that were looked at, with their ordinals; of a source that broke off those before it did."""
    for span in spans:
        if not span.records:
            continue
        with suppress(BadInput):
            records = (record for batch in read_batches(span.source.path) for record in batch.records)
            yield from zip(range(span.first, span.end), records, strict=False)


def mend(value: Any) -> Any:
    """Plain data with every text in it mended, the names of columns apart."""
    if isinstance(value, str):
        return mend_text(value)
    if isinstance(value, dict):
        return {key: mend(entry) for key, entry in value.items()}
    return [mend(entry) for entry in value] if isinstance(value, list) else value


def mend_text(text: str) -> str:
    """Decoded again where it is mojibake, without control characters and secrets."""
    if is_mojibake(text):
        from ftfy import fix_encoding

        text = fix_encoding(text)
    return redact(_CONTROL.sub("", _ESCAPES.sub("", text)))


def _line(record: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(record, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # numbers beyond 64 bits, lone surrogates
        return json.dumps(record, default=str).encode() + b"\n"
