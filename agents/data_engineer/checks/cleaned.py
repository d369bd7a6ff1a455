"""The cleaned copy of audited data: the records as they stand, without those that are left out, and texts mended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from agents.data_engineer.checks.check import Ordinals
from agents.data_engineer.checks.text import CONTROL, CONTROL_BEYOND_ASCII, is_mojibake
from agents.data_engineer.reading.files import read_batches
from agents.data_engineer.reading.sources import Source
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


def write_cleaned(path: Path, sources: Sequence[Source], dropped: Ordinals, mended: Ordinals) -> dict[str, Any]:
    """Write the rows to train on as JSONL; returns {path, rows, left_out, mended}.

    `dropped` and `mended` are ordinals of records, in order and over all sources. Sources to measure on are left out
    where there are others. Raises Unavailable where the file cannot be written; then there is none.
    """
    trained = {source.path for source in sources if not source.is_measured_on} or {source.path for source in sources}
    part = path.with_name(f".{path.name}.part")
    counts = {"rows": 0, "left_out": 0, "mended": 0}
    try:
        with part.open("xb") as stream:
            _write(stream, sources, trained, {*dropped.tolist()}, {*mended.tolist()}, counts)
        part.replace(path)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be written ({error.strerror or error}); make room, or give another place"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return {"path": str(path), **counts}


def _write(
    stream: BinaryIO, sources: Sequence[Source], trained: set[Path], dropped: set[int], mended: set[int],
    counts: dict[str, int],
) -> None:  # fmt: skip
    for ordinal, (path, record) in enumerate(_records(sources)):
        if path not in trained:
            continue
        if ordinal in dropped:
            counts["left_out"] += 1
            continue
        counts["rows"] += 1
        if ordinal in mended:
            counts["mended"] += 1
            record = mend(record)
        stream.write(_line(record))


def _records(sources: Sequence[Source]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for source in sources:
        try:
            for batch in read_batches(source.path):
                for record in batch.records:
                    yield source.path, record
        except BadInput:
            continue  # what was read of it before the audit is read again; the finding says that it broke off


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
