"""Publishes a data set as Parquet with a card: to a folder, or, after a person's consent, to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agents.data_engineer.publishing.card import render_card
from agents.data_engineer.publishing.shards import columns_of, shard_names, write_shards
from agents.publishing.cards import CARD, forbidding, licences
from agents.publishing.to_folder import place
from agents.publishing.to_hub import Heed, Published, heedless, push
from agents.reading.files import digest_of
from shared_memory.errors import BadInput
from shared_memory.records import DatasetRecord

DATA = "data"
"""Folder of the Parquet files."""
TAKES_OUT = {"decontaminate": "benchmark items", "drop_copies_of_held_out": "copies of held-out rows"}
"""Step → what it takes out of the rows."""


def plan(record: DatasetRecord, repo_id: str, private: bool = True) -> dict[str, Any]:
    """What publishing would do, for a gate to show; nothing is written or asked for.

    `bytes` is the size of the rows as JSONL, the Parquet files being smaller; `refused` says why it would not be done.
    Raises BadInput where the data set's file is gone.
    """
    path = _source(record)
    return {
        "repo": repo_id,
        "private": private,
        "files": [CARD, *(f"{DATA}/{name}" for name in shard_names(path))],
        "bytes": path.stat().st_size,
        "rows": record.rows,
        "licence": record.licence or "unknown",
        "digest": record.digest,
        "leaves": f"{record.rows} rows as Parquet and a card that says how they were made",
        "warnings": _warnings(record, private),
        "refused": "; ".join(filter(None, (_uncleaned(record), _forbidden(record, ())))),
    }


def card_of(record: DatasetRecord, title: str) -> str:
    """The card that is published with it. Raises BadInput where the data set's file is gone or has changed."""
    with tempfile.TemporaryDirectory(prefix="postgrad-publish-") as folder:
        return _build(record, title, Path(folder) / "files")[CARD].read_text(encoding="utf-8")


def to_folder(record: DatasetRecord, folder: Path) -> Path:
    """Write the data set into `folder`, for `datasets.load_dataset(folder)`; what is the same already stays untouched.

    Raises BadInput where benchmark items may still be in the rows, or where `folder` holds something else.
    """
    _require(_uncleaned(record))
    return place(lambda new: _build(record, folder.expanduser().absolute().name, new), folder, _is_a_shard)


def to_hub(
    record: DatasetRecord,
    repo_id: str,
    *,
    private: bool = True,
    heed: Heed = heedless,
    allowed_licences: Collection[str] = (),
    token: str | None = None,
    endpoint: str | None = None,
) -> Published:
    """Put the data set into a repository of the Hub; see `to_hub.push`, which says what it raises beside this.

    `allowed_licences` names those that forbid sharing and are to be shared all the same. Raises BadInput where
    benchmark items may still be in the rows, or where the licence forbids it.
    """
    _require(_uncleaned(record))
    _require(_forbidden(record, allowed_licences))
    with tempfile.TemporaryDirectory(prefix="postgrad-publish-") as folder:
        return push(
            lambda name: _build(record, name, Path(folder) / "files"),
            repo_id,
            kind="dataset",
            private=private,
            is_ours=_is_a_shard,
            heed=heed,
            token=token,
            endpoint=endpoint,
        )


def _is_a_shard(path: str) -> bool:
    return path.startswith(f"{DATA}/train-") and path.endswith(".parquet")


def _source(record: DatasetRecord) -> Path:
    path = Path(record.path)
    if not path.is_file():
        raise BadInput(f"{path} is gone, the rows of data set {record.id}; prepare the data again")
    return path


def _build(record: DatasetRecord, title: str, folder: Path) -> dict[str, Path]:
    """Name in the repository → file in `folder`: the Parquet files and the card."""
    path = _source(record)
    if digest_of(path) != record.digest:
        raise BadInput(f"{path} has changed since data set {record.id} was made of it; prepare the data again")
    (folder / DATA).mkdir(parents=True)
    shards = write_shards(path, folder / DATA)
    (folder / CARD).write_text(render_card(record, title, columns_of(shards[0])), encoding="utf-8")
    return {f"{DATA}/{shard.name}": shard for shard in shards} | {CARD: folder / CARD}


def _require(reason: str) -> None:
    if reason:
        raise BadInput(reason)


def _uncleaned(record: DatasetRecord) -> str:
    """Why items that models are measured on may still be in the rows; empty where none was found or all are out."""
    done = {step.name for step in record.steps}
    found = [name for name, share in record.contamination.items() if share > 0]
    if found and not done & TAKES_OUT.keys():
        return f"items of {', '.join(found)} were found in the rows and not taken out; decontaminate them first"
    if "hold_out" in done and "drop_copies_of_held_out" not in done:
        return "rows were held out and copies of them not taken out of the rest; prepare the data again"
    return ""


def _forbidden(record: DatasetRecord, allowed: Collection[str]) -> str:
    """Why the licence does not let the rows be shared; empty where it does, is unknown, or is allowed by name."""
    known = {name.lower() for name in allowed}
    names = [name for name in forbidding(record.licence) if name.lower() not in known]
    if not names:
        return ""
    return f"the licence {', '.join(names)} forbids sharing changed copies; allow it by name if you have permission"


def _warnings(record: DatasetRecord, private: bool) -> list[str]:
    found = []
    if not licences(record.licence):
        found.append("the licence of its source is unknown; the card says so")
    if not record.contamination:
        found.append("its rows were not checked against any benchmark; the card says so")
    if not private:
        found.append("everybody will be able to read it")
    return found
