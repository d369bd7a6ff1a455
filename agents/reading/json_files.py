"""Reads JSONL and JSON, row by row: a line that is no row is a fault, and the next one is read all the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from agents.reading.batches import Batch, Batches, Fault
from agents.reading.streams import LINE_LIMIT, Damaged, first_line, lines, opened, skip_byte_order_mark
from shared_memory.errors import BadInput

WHOLE_LIMIT = 256 * 2**20
"""Bytes of a JSON list, which is read at once; JSONL has no such limit."""
SHOWN = 4096
"""Bytes of the start of a file by which a list is told from lines, however long the first line is."""
_EXACT = 2.0**63
"""Whole numbers from here on are floats to orjson, and not exact."""


def read_jsonl(path: Path, size: int) -> Iterator[Batch]:
    """One object a line, counted from 1; blank lines are none."""
    with opened(path) as stream:
        batches, number = Batches(size), 0
        try:
            skip_byte_order_mark(stream, path)
            for number, line in enumerate(lines(stream), start=1):
                if batches.full:
                    yield batches.take()
                if line is None:
                    batches.fault(number, "line_too_long", f"has more than {LINE_LIMIT // 2**20} MiB")
                    continue
                try:
                    record = orjson.loads(line)
                except ValueError:
                    record = _read_again(line, number, batches)
                    if record is None:
                        continue
                if type(record) is not dict:
                    batches.fault(number, "not_an_object", "is not a JSON object")
                    continue
                batches.add(number, exact(record, line), len(line))
        except Damaged as error:
            batches.fault(0, "truncated", str(error))
        yield batches.take()


def _read_again(line: bytes, number: int, batches: Batches) -> Any:
    """What the fast parser refused: Python's takes lone surrogates, NaN and Infinity. None where it is no JSON."""
    if not line.strip():
        return None
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        batches.fault(number, "not_utf8", f"is not UTF-8 text (byte {line[error.start]:#04x})")
        return None
    constants: list[str] = []
    try:
        value = _loads(text, constants)
    except (ValueError, RecursionError) as error:
        if line.endswith(b"\n"):
            batches.fault(number, "not_json", f"is not JSON ({first_line(error)})")
        else:
            batches.fault(number, "truncated", f"is not JSON ({first_line(error)}), and the file ends in it")
        return None
    if constants:
        batches.fault(number, "not_finite", f"holds {constants[0]}, which is read as no value")
    return value


def _loads(text: str, constants: list[str]) -> Any:
    """Python's reading of JSON, with None for what is no finite number; its names are added to `constants`."""

    def number(text: str) -> float | None:
        value = float(text)
        return value if math.isfinite(value) else absent(text)

    def absent(name: str) -> float | None:
        constants.append(name)
        return None

    return json.loads(text, parse_constant=absent, parse_float=number)


def exact(record: dict[str, Any], line: bytes | str) -> dict[str, Any]:
    """The record with its large whole numbers as they stand in `line`, not rounded."""
    if _may_be_rounded(record.values()):
        again: dict[str, Any] = json.loads(line)
        return again
    return record


def _may_be_rounded(values: Iterable[Any]) -> bool:
    """Whether a number among the values, or however deep in them, may be a whole one that the fast parser rounded."""
    for value in values:
        kind = type(value)
        if kind is str:
            continue
        if kind is float:
            if not -_EXACT < value < _EXACT:
                return True
        elif (kind is dict and _may_be_rounded(value.values())) or (kind is list and _may_be_rounded(value)):
            return True
    return False


def read_json(path: Path, size: int) -> Iterator[Batch]:
    """A list of objects, at most WHOLE_LIMIT bytes of it; or JSONL under this name, as many data sets have it."""
    with opened(path) as stream:
        try:
            skip_byte_order_mark(stream, path)
            start = stream.peek()
            listed = not start.lstrip().startswith(b"{")
            content = stream.read(WHOLE_LIMIT + 1) if listed else b""
        except Damaged as error:
            raise BadInput(f"{path}: {error}; get the file anew") from error
    if len(content) > WHOLE_LIMIT:
        raise BadInput(
            f"{path} is a JSON list of more than {WHOLE_LIMIT // 2**20} MiB; "
            f"write it as JSONL (`jq -c '.[]' {path.name} > {path.stem}.jsonl`)"
        )
    if not listed:
        _require_lines(path, start.lstrip())
    yield from _entries(path, content, size) if listed else read_jsonl(path, size)


def _require_lines(path: Path, start: bytes) -> None:
    """Raise BadInput where what begins like JSONL is one object over several lines."""
    line, end, _ = start.partition(b"\n")
    try:
        json.loads(line if end or len(start) < SHOWN else "{}")
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} is not JSON, or no list of objects ({first_line(error)}); write it as [{{column: value}}, …]"
        ) from error


def _entries(path: Path, content: bytes, size: int) -> Iterator[Batch]:
    constants: list[str] = []
    try:
        value = orjson.loads(content)
        if _may_be_rounded([value]):
            value = json.loads(content)
    except ValueError:
        try:
            value = _loads(content.decode(), constants)
        except (ValueError, RecursionError) as error:
            mend = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else "mend it, or get the file anew"
            raise BadInput(f"{path} is not JSON ({first_line(error)}); {mend}") from error
    if not isinstance(value, list):
        raise BadInput(f"{path} is not a list of JSON objects; write it as [{{column: value}}, …], or JSONL")
    batches = Batches(size)
    if constants:
        batches.faults.append(Fault(1, "not_finite", f"or a later row holds {constants[0]}, which is read as no value"))
    for number, entry in enumerate(value, start=1):
        if type(entry) is dict:
            batches.add(number, entry)
        else:
            batches.fault(number, "not_an_object", "is not a JSON object")
        if batches.full:
            yield batches.take()
    yield batches.take()
