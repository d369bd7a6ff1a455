"""The data of a published benchmark: its files at the pinned commit, fetched once, or a local copy of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.evaluator.benchmarks.registry import Entry
from agents.hub_client import CARD, fetch, front_matter, hub_errors, tree_of
from agents.reading.files import READERS, ending_of, read_records
from agents.reading.hub import snapshot
from agents.reading.hub_layout import layout_of, require_all_shards
from agents.reading.sources import resolve
from shared_memory.errors import BadInput, Unavailable
from shared_memory.run_paths import write_atomically
from shared_memory.settings import load_settings

Table = list[dict[str, Any]]
"""Rows as they stand in a file: column → value."""
GITHUB = "https://raw.githubusercontent.com"
PATIENCE = 60.0
"""Seconds that a server may be silent."""


def tables_of(entry: Entry, local: str = "") -> list[Table]:
    """The rows of each of an entry's `files`, or one table of its config and split. Raises as `paths_of` does."""
    paths = paths_of(entry, local)
    if entry.files:
        return [table_of([path]) for path in paths]
    return [table_of(paths)]


def table_of(paths: Sequence[Path]) -> Table:
    """The rows of some files, one after the other."""
    return [dict(row) for path in paths for row in read_records(path)]


def paths_of(entry: Entry, local: str = "", *, config: str = "", split: str = "") -> list[Path]:
    """The files of an entry, or those of another config or split of its data set.

    `local`, where given, has them in place of the Hub: a file with the entry's rows, a folder laid out as the data set
    is, or another data set on the Hub. What it does not have (examples of another split) still comes from the data
    set. Raises BadInput where one has to accept terms or there is no such local copy, and Unavailable where the Hub is
    out of reach and nothing was kept; both say that a local copy will do.
    """
    config, split = config or entry.config, split or entry.split
    of_the_source = _on_github if entry.folder else _on_the_hub
    if local and (found := _local(entry, local, config, split)):
        return found
    way_out = f"or give a local copy: `path` beside name = '{entry.name}'"
    try:
        return of_the_source(entry, config, split)
    except BadInput as error:
        raise BadInput(f"{error}; {way_out}") from error
    except Unavailable as error:
        raise Unavailable(f"{error}; {way_out}") from error


def _on_github(entry: Entry, *_: str) -> list[Path]:
    """The files in the home; what is not there yet is fetched. A commit's files never change."""
    import httpx

    folder = load_settings().home / "benchmarks" / entry.source / entry.revision
    for name in entry.files:
        if (folder / name).is_file():
            continue
        url = f"{GITHUB}/{entry.source}/{entry.revision}/{entry.folder}/{name}"
        try:
            response = httpx.get(url, timeout=PATIENCE, follow_redirects=True).raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"{url} could not be fetched ({type(error).__name__}); run again when it can") from error
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, response.content)
    return [folder / name for name in entry.files]


def _on_the_hub(entry: Entry, config: str, split: str) -> list[Path]:
    if kept := _kept(entry, config, split):
        return kept
    if not entry.files:
        held = snapshot(entry.source, revision=entry.revision, config=config, split=split)
        return [path for _, path in held.files]
    from huggingface_hub import HfApi

    api = HfApi()
    with hub_errors(entry.source, revision=entry.revision, endpoint=api.endpoint):
        tree = tree_of(api, entry.source, entry.revision)
        if missing := next((name for name in entry.files if name not in tree), ""):
            raise BadInput(f"{entry.source} has no {missing} at {entry.revision}")
        return fetch(api, entry.source, [tree[name] for name in entry.files], entry.revision)


def _kept(entry: Entry, config: str, split: str) -> list[Path]:
    """What the client's cache has of the pinned commit, if that is all of it: a commit does not change."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(entry.source, repo_type="dataset", revision=entry.revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return []
    return _in_folder(entry, Path(folder), config, split)


def _local(entry: Entry, local: str, config: str, split: str) -> list[Path]:
    path = Path(local)
    if entry.files and path.exists() and not (path.is_file() and len(entry.files) == 1):
        if not (found := _in_folder(entry, path, config, split)):
            raise BadInput(f"{local} is no folder that holds {' and '.join(entry.files)}; name the one that does")
        return found
    if path.is_file():
        return [path] if split == entry.split else []
    if path.is_dir():
        return _in_folder(entry, path, config, split) or _only_file(entry, path, split)
    sources = [source for source in resolve([local]) if not source.split or source.split == split]
    if any(not source.path.is_file() for source in sources):
        raise BadInput(f"{local} is neither a file nor a folder or a data set on the Hub; check [[benchmark]] path")
    return [source.path for source in sources]


def _in_folder(entry: Entry, folder: Path, config: str, split: str) -> list[Path]:
    """The files of a config and split in a folder that is laid out as the data set is; none where some are missing."""
    if entry.files:
        paths = [folder / name for name in entry.files]
        return paths if all(path.is_file() for path in paths) else []
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    card = folder / CARD
    layout = layout_of(names, front_matter(card.read_text(encoding="utf-8", errors="replace")) if card.exists() else {})
    try:
        splits = layout.choose(entry.source, config, split)[1]
        require_all_shards(entry.source, splits[split])
    except BadInput:
        return []
    return [folder / name for name in splits[split]]


def _only_file(entry: Entry, folder: Path, split: str) -> list[Path]:
    files = [path for path in sorted(folder.rglob("*")) if ending_of(path) in READERS]
    if split != entry.split:
        return []
    if len(files) != 1:
        raise BadInput(
            f"{folder} holds {len(files)} data files and no {entry.config or 'default'}/{split} of {entry.source}; "
            f"name the file of {entry.name}"
        )
    return files
