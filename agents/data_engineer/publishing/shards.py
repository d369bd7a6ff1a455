"""JSONL rows as Parquet files that hold the same rows: typed columns, bounded shards, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_memory.errors import BadInput
from shared_memory.records import canonical_digest

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 500_000_000
"""Of the rows as JSONL, which take less as Parquet."""
GROUP_BYTES = 32_000_000
"""Of a row group, as JSONL: what is in memory at a time, and what a reader loads at once."""
OPTIONS: Mapping[str, Any] = {"compression": "zstd", "use_content_defined_chunking": True}
"""Of the writer. Chunks by content let the Hub store only what a new version changes."""

Row = Mapping[str, Any]
Rows = Iterable[tuple[int, Row]]
"""(bytes as JSONL, row)."""


def shard_names(source: Path, shard_bytes: int = SHARD_BYTES) -> tuple[str, ...]:
    """Names of the files that `write_shards` makes, as the `datasets` library looks for them."""
    count = max(1, -(-source.stat().st_size // shard_bytes))
    return tuple(f"train-{number:05}-of-{count:05}.parquet" for number in range(count))


def write_shards(source: Path, folder: Path, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Write the rows of the JSONL file `source` into Parquet files in `folder`; messages stay lists of structs.

    Raises BadInput where the rows do not come back the same: values of several types in a column, say.
    """
    import pyarrow as pa

    paths = [folder / name for name in shard_names(source, shard_bytes)]
    try:
        schema = _schema_of(source)
        _write(source, paths, schema)
        same = content_digest(rows_of(paths)) == content_digest(row for _, row in _rows(source))
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        what = str(error).splitlines()[0]
        raise BadInput(f"{source} cannot be kept as Parquet ({what}); give each column one type") from error
    if not same:
        raise BadInput(f"{source} does not come back the same from Parquet; give each column one type")
    return paths


def rows_of(paths: Iterable[Path]) -> Iterator[Row]:
    """The rows of Parquet files, in order."""
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                yield from batch.to_pylist()


def columns_of(path: Path) -> dict[str, str]:
    """Column → what it holds, of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def kind(of: pa.DataType) -> str:
        chat = pa.types.is_list(of) and pa.types.is_struct(of.value_type) and of.value_type.get_field_index("role") >= 0
        return "messages" if chat else str(of)

    return {field.name: kind(field.type) for field in pq.read_schema(path)}


def content_digest(rows: Iterable[Row]) -> str:
    """sha256 (hex) of what rows say in their order, whatever file they are in; a null says as much as no value."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_digest(_said(row)).encode())
    return digest.hexdigest()


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _said(entry) for key, entry in value.items() if entry is not None}
    return [_said(entry) for entry in value] if isinstance(value, list) else value


def _schema_of(source: Path) -> pa.Schema:
    """The types of all columns, from all rows: a column may be empty in many of them."""
    import pyarrow as pa

    schema = pa.schema([])
    for group in _groups(_rows(source)):
        columns = dict.fromkeys(column for row in group for column in row)
        types = [(column, pa.array([row.get(column) for row in group]).type) for column in columns]
        schema = pa.unify_schemas([schema, pa.schema(types)], promote_options="permissive")
    return schema


def _write(source: Path, paths: list[Path], schema: pa.Schema) -> None:
    """Each file gets the rows whose lines begin in its part of the source; none where one line fills more than that."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = -(-source.stat().st_size // len(paths))
    begins = 0

    def shard(sized: tuple[int, Row]) -> int:
        nonlocal begins
        begins += sized[0]
        return (begins - sized[0]) // part

    for number, rows in groupby(_rows(source), key=shard):
        with pq.ParquetWriter(paths[number], schema, **OPTIONS) as writer:
            for group in _groups(rows):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
    for path in paths:
        if not path.exists():
            pq.write_table(schema.empty_table(), path, **OPTIONS)


def _rows(source: Path) -> Iterator[tuple[int, Row]]:
    with source.open("rb") as stream:
        yield from ((len(line), json.loads(line)) for line in stream if line.strip())


def _groups(rows: Rows) -> Iterator[list[Row]]:
    """The rows in lists of about GROUP_BYTES."""
    group: list[Row] = []
    held = 0
    for size, row in rows:
        group.append(row)
        held += size
        if held >= GROUP_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group
