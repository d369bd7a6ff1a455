"""The data set viewer of the Hub's stand-in: what it says of the converted branch, as far as clients read it."""

from __future__ import annotations

import io
from typing import Any

from tests.servers.hub_repos import CONVERTED, Repo

VIEWS = ("is-valid", "splits", "size", "parquet", "info", "statistics")
PARTIAL = "partial-"
"""Before the name of a split of which the viewer converted the first 5 GB only."""


def viewed(repo: Repo, name: str, endpoint: str) -> dict[str, Any]:
    """The answer of one of VIEWS for a whole data set."""
    files = _parquet_files(repo, endpoint)
    partial = any(file["partial"] for file in files)
    splits = list(dict.fromkeys((file["config"], file["split"]) for file in files))
    if name == "is-valid":
        return {"preview": bool(files), "viewer": bool(files), "search": False, "filter": False, "statistics": False}
    if name == "parquet":
        listed = [
            {key: file[key] for key in ("dataset", "config", "split", "url", "filename", "size")} for file in files
        ]
        return {"parquet_files": listed, "partial": partial, "pending": [], "failed": []}
    if name == "splits":
        listed = [{"dataset": repo.id, "config": config, "split": split} for config, split in splits]
        return {"splits": listed, "pending": [], "failed": []}
    if name == "size":
        total = {
            "num_bytes_parquet_files": sum(file["size"] for file in files),
            "num_rows": sum(file["rows"] for file in files),
        }
        return {"size": {"dataset": {"dataset": repo.id, **total}}, "partial": partial, "pending": [], "failed": []}
    if name == "info":
        configs = {config: {"config_name": config, "splits": {}} for config, _ in splits}
        return {"dataset_info": configs, "partial": partial, "pending": [], "failed": []}
    return {"num_examples": sum(file["rows"] for file in files), "statistics": [], "partial": partial}


def _parquet_files(repo: Repo, endpoint: str) -> list[dict[str, Any]]:
    """`CONFIG/SPLIT/0000.parquet` of the converted branch, one entry a file."""
    commit = repo.at(CONVERTED)
    entries = []
    for path, blob in sorted(commit.files.items()) if commit else ():
        config, split, filename = path.split("/")
        entries.append({
            "dataset": repo.id, "config": config, "split": split.removeprefix(PARTIAL), "filename": filename,
            "url": f"{endpoint}/datasets/{repo.id}/resolve/{CONVERTED.replace('/', '%2F')}/{path}",
            "size": len(blob.content), "partial": split.startswith(PARTIAL), "rows": _rows(blob.content),
        })  # fmt: skip
    return entries


def _rows(content: bytes) -> int:
    import pyarrow.parquet as pq

    return int(pq.ParquetFile(io.BytesIO(content)).metadata.num_rows)
