"""Benchmarks: from a file in GPQA's columns to items in a fixed order, each in its part."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from agents.multiple_choice import LETTERS, TEMPLATE, Item
from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import Part, Record, canonical_digest

ANSWERS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
COLUMNS = ("Question", *ANSWERS)


class Benchmark(Record):
    """A benchmark, ready to be asked."""

    name: str
    source: str
    items: tuple[Item, ...]
    max_tokens: int
    """Tokens that an answer may take."""
    digest: str
    """sha256 of the items and the prompt template."""


def load_benchmark(entry: BenchmarkGoal) -> Benchmark:
    """The benchmark of a goal.

    Raises BadInput for a name that the registry does not hold, and for a file that is not what it claims to be.
    """
    if entry.name:
        raise BadInput(f"there is no benchmark `{entry.name}` in this version; give a file in GPQA's columns as `path`")
    path = Path(entry.path)
    if not path.is_file():
        raise BadInput(f"benchmark file {path} does not exist; check [[benchmark]] path")
    items = _items(path, path.stat().st_mtime_ns)
    digest = canonical_digest({"items": [item.plain() for item in items], "template": TEMPLATE})
    return Benchmark(name=entry.id, source=str(path), items=items, max_tokens=entry.max_tokens, digest=digest)


@lru_cache(maxsize=8)
def _items(path: Path, changed: int) -> tuple[Item, ...]:
    rows = _rows(path)
    if not rows:
        raise BadInput(f"{path} holds no questions; check the file")
    missing = [column for column in COLUMNS if column not in rows[0]]
    if missing:
        absent = ", ".join(f"`{column}`" for column in missing)
        raise BadInput(f"{path} lacks {absent}; rename or add columns: a benchmark file has {', '.join(COLUMNS)}")
    items = tuple(_item(row, number, path) for number, row in enumerate(rows, 1))
    ids = [item.id for item in items]
    if len(set(ids)) < len(ids):
        twice = next(item for item in ids if ids.count(item) > 1)
        raise BadInput(f"{path} has two rows with the Record ID `{twice}`; make them unique")
    return items


def _rows(path: Path) -> list[dict[str, Any]]:
    """The file's rows as plain data."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".jsonl", ".ndjson"):
            return _json_lines(path)
        if suffix == ".csv":
            return pl.read_csv(path, infer_schema=False).to_dicts()
        if suffix == ".parquet":
            return pl.read_parquet(path).to_dicts()
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} is not a readable {suffix[1:]} file ({cause}); check the file") from error
    raise BadInput(f"{path} is no benchmark file: give .jsonl, .csv or .parquet in GPQA's columns")


def _json_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    # Not splitlines(): a JSON string may hold signs that it takes for the end of a line (U+0085, U+2028).
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{path}, line {number} is not JSON; every line of a .jsonl file is one object") from error
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number} is not a JSON object; every line of a .jsonl file is one")
        rows.append(row)
    return rows


def _item(row: dict[str, Any], number: int, path: Path) -> Item:
    empty = next((column for column in COLUMNS if not str(row.get(column) or "").strip()), None)
    if empty:
        raise BadInput(f"{path}, row {number}: `{empty}` is empty; fill it or drop the row")
    question = str(row["Question"])
    choices = [str(row[column]) for column in ANSWERS]
    if len(set(choices)) < len(choices):
        raise BadInput(f"{path}, row {number}: two of the four choices are the same; mend or drop the row")
    record_id = str(row.get("Record ID") or hashlib.sha256(question.encode()).hexdigest()[:16])
    order = list(range(len(choices)))
    # Seeded by the id alone: the order is part of the benchmark, the same in every run and for every model.
    Random(record_id).shuffle(order)
    return Item(
        id=record_id,
        question=question,
        choices=tuple(choices[position] for position in order),
        answer=LETTERS[order.index(0)],
        category=str(row.get("Subdomain") or ""),
        part=_part(row, record_id, number, path),
    )


def _part(row: dict[str, Any], record_id: str, number: int, path: Path) -> Part:
    """The part that the file gives, else by a hash of the record id: half selects, half reports."""
    given = row.get("Part")
    if not given:
        return Part.SELECTION if hashlib.sha256(record_id.encode()).digest()[0] % 2 else Part.REPORT
    try:
        return Part(str(given))
    except ValueError as error:
        raise BadInput(f"{path}, row {number}: Part is `{given}`; it is `selection` or `report`") from error
