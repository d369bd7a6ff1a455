"""The card of a data set that is published: what a stranger needs to load it, trust it, or leave it alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_memory.records import DatasetRecord
from shared_memory.redaction import redact

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md.j2"
UNKNOWN = frozenset({"", "unknown", "other"})
"""Licences that say nothing."""
SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
"""Fewer rows than → the Hub's name for it."""
_FOLDERS = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/,;:|]+/)+")
"""The folders of an absolute path: they tell of a machine, not of the data."""
_MARK = re.compile(r"^<!-- made by postgrad; the rest of this file was (?P<digest>[0-9a-f]{64}) -->$", re.MULTILINE)


def render_card(record: DatasetRecord, title: str, columns: Mapping[str, str]) -> str:
    """README.md of the data set: the Hub's metadata, provenance, steps, licence, contamination and limits.

    `title` is what `load_dataset` takes; `columns` are name → what is there. Without secrets and without folders of
    this machine. The same record gives the same text, and its last line marks it as ours (see `mark_of`).
    """
    text = _template().render(
        record=record,
        title=title,
        metadata=_metadata(record),
        source=", ".join(Path(name).name if Path(name).is_absolute() else name for name in record.source.split(", ")),
        columns=columns,
        unknown_licence=not licences(record.licence),
    )
    text = redact(text)
    return f"{text}\n<!-- made by postgrad; the rest of this file was {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def mark_of(card: str) -> str:
    """The digest by which a card of ours says what it was rendered as, edited since or not; empty for another's."""
    match = _MARK.search(card)
    return match["digest"] if match else ""


def licences(licence: str) -> list[str]:
    """The licences of a record, without those that say nothing."""
    names = (name.strip() for name in re.split(r"[,;]| and ", licence))
    return [name for name in names if name.lower() not in UNKNOWN]


def _metadata(record: DatasetRecord) -> dict[str, Any]:
    """The card's front matter [huggingface.co/docs/hub/datasets-cards]."""
    names = licences(record.licence)
    known = [name.lower() for name in names if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name.lower())]
    licence: dict[str, Any] = {"license": known[0] if len(known) == 1 else known}
    if len(known) < len(names) or not names:
        licence = {"license": "other", "license_name": ", ".join(names)} if names else {"license": "unknown"}
    return licence | {
        "size_categories": [next((name for below, name in SIZES if record.rows < below), "1B<n<10B")],
        "task_categories": ["text-generation"],
        "tags": ["postgrad", record.method],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]},
        ],
    }


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701 - Markdown
    environment.filters |= {"yaml": json.dumps, "text": _text}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _text(value: str) -> str:
    """Words that others wrote, as text of one line that is no markup, no table cell's end and no path of ours."""
    line = _FOLDERS.sub("", " ".join(redact(value).split()))  # a secret with a backslash in it is no longer known
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", line).replace("\\<", "&lt;")
