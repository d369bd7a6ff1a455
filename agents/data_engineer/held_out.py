"""Keeps the rows that a run is measured on, and whatever resembles them, out of what it trains on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field

from agents.data_engineer.duplicates.dedup import near_duplicate_clusters
from agents.data_engineer.formats.tables import Row, Table
from agents.reading.files import digest_of
from agents.reading.sources import to_train_on
from shared_memory.errors import BadInput
from shared_memory.records import Record, Step

NEXT_MOVE = "restore it, or start a new run"


class HeldOut(Record):
    """Rows that the run is measured on."""

    benchmark: str
    """What their overlap with the training data is filed under."""
    rows: frozenset[str]
    """Their ids, which hold for as long as the files are what they were."""
    files: dict[str, str] = Field(default_factory=dict)
    """Each file that rows were held out of → its sha256 then; in their order, for ids begin with a file's place."""


def digests(names: Iterable[str]) -> dict[str, str]:
    """File → sha256, for all files behind what is named (see `sources`). Raises BadInput where one cannot be read."""
    return {str(source.path): digest_of(source.path) for source in to_train_on(list(names))}


def require_unchanged(held_out: HeldOut) -> None:
    """Raise BadInput naming the first file that is not what it was: its rows would go by other ids."""
    for file, digest in held_out.files.items():
        if not Path(file).is_file():
            raise BadInput(f"{file} is gone since rows were held out of it; {NEXT_MOVE}")
        if digest_of(Path(file)) != digest:
            raise BadInput(f"{file} has changed since rows were held out of it; {NEXT_MOVE}")


def drop_held_out(tables: Sequence[Table], held_out: HeldOut) -> tuple[list[Row], list[Step], dict[str, float]]:
    """The rows to train on, the steps to them, and benchmark → share of the held-out rows that were found again.

    Found again is a held-out row where a row of another file shares its cluster (see `near_duplicate_clusters`): its
    question whatever is answered, its text, or nearly so. The files that rows were held out of need no second look:
    their clusters were held out whole. Raises BadInput where a held-out row is not there, or goes by another id because
    a file came or went beside those that rows were held out of.
    """
    rows = [row for table in tables for row in table.rows]
    held = [row for row in rows if row.id in held_out.rows]
    if len(held) < len(held_out.rows):
        raise BadInput(
            f"{len(held_out.rows) - len(held)} of the {len(held_out.rows)} held-out rows are not in the data any "
            "more: the files have changed; start a new run"
        )
    looked_at = [Path(file) for file in held_out.files]
    if list(dict.fromkeys(table.path for table in tables))[: len(looked_at)] != looked_at:
        raise BadInput(
            "other files stand before those that rows were held out of, or these in another order; restore them, "
            "or start a new run"
        )
    others = [row for table in tables if table.path not in looked_at for row in table.rows]
    compared = [*held, *(row for row in others if row.id not in held_out.rows)]
    clusters = near_duplicate_clusters(compared)
    shared = set(clusters[: len(held)]) & set(clusters[len(held) :])
    again = {row.id for row, cluster in zip(compared, clusters, strict=True) if cluster in shared}
    found = again & held_out.rows
    left = [row for row in rows if row.id not in held_out.rows]
    kept = [row for row in left if row.id not in again]
    note = f"{held_out.benchmark}: {len(found)} of {len(held)} rows found again by question, text or near-duplicate"
    steps = [
        Step(name="hold_out", rows_in=len(rows), rows_out=len(left), note="the run is measured on them"),
        Step(name="drop_copies_of_held_out", rows_in=len(left), rows_out=len(kept), note=note),
    ]
    return kept, steps, {held_out.benchmark: len(found) / len(held)}
