"""The card of a data set that is published: what a stranger needs to load it, trust it, or leave it alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.publishing.cards import licence_metadata, licences, rendered
from shared_memory.records import DatasetRecord

TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md.j2"
SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
"""Fewer rows than → the Hub's name for it."""


def render_card(record: DatasetRecord, title: str, columns: Mapping[str, str]) -> str:
    """README.md of the data set: the Hub's metadata, provenance, steps, licence, contamination and limits.

    `title` is what `load_dataset` takes; `columns` are name → what is there. Without secrets and without folders of
    this machine. The same record gives the same text, and its last line marks it as ours (see `cards.mark_of`).
    """
    return rendered(
        TEMPLATE,
        record=record,
        title=title,
        metadata=_metadata(record),
        source=", ".join(Path(name).name if Path(name).is_absolute() else name for name in record.source.split(", ")),
        columns=columns,
        unknown_licence=not licences(record.licence),
    )


def _metadata(record: DatasetRecord) -> dict[str, Any]:
    """The card's front matter [huggingface.co/docs/hub/datasets-cards]."""
    return licence_metadata(record.licence) | {
        "size_categories": [next((name for below, name in SIZES if record.rows < below), "1B<n<10B")],
        "task_categories": ["text-generation"],
        "tags": ["postgrad", record.method],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]},
        ],
    }
