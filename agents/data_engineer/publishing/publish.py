"""Publishes a data set as Parquet with a card: to a folder, or, after a person's consent, to the Hugging Face Hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.data_engineer.publishing.card import licences, mark_of, render_card
from agents.data_engineer.publishing.shards import columns_of, shard_names, write_shards
from agents.data_engineer.reading.files import digest_of
from agents.data_engineer.reading.hub_client import CARD, fetch, holds, hub_errors, patiently, read_card, tree_of
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import DatasetRecord, Record
from shared_memory.run_paths import write_atomically

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo, RepoFile

DATA = "data"
"""Folder of the Parquet files."""
OF_THE_HUB = frozenset({".gitattributes"})
"""What a repository holds when nothing was put into it."""
TAKES_OUT = {"decontaminate": "benchmark items", "drop_copies_of_held_out": "copies of held-out rows"}
"""Step → what it takes out of the rows."""
_FORBIDS = re.compile(r"\bnd\b|no.?deriv|all.rights.reserved|proprietary|no.?redistribution", re.IGNORECASE)


class Published(Record):
    """A data set on the Hub, as it was read back."""

    repo_id: str
    revision: str
    """Commit, 40 hex digits."""
    url: str
    files: tuple[str, ...]
    """Names in the repository."""
    bytes: int
    """Of these files."""
    private: bool
    changed: bool
    """Whether a commit was made: not where the Hub held the same already."""


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
    folder = folder.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; name a folder")
    is_new = not folder.exists() or not any(folder.iterdir())
    if not is_new and not _is_ours(folder / CARD):
        raise BadInput(f"{folder} holds something else; name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
            files = _build(record, folder.name, Path(beside) / "whole")
            if is_new:
                (Path(beside) / "whole").rename(folder)
            else:
                _replace(files, folder)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written ({error.strerror or error}); make room, run again") from error
    return folder


def heedless(last: bool) -> None:
    """Nobody who publishes is to be stopped."""


def to_hub(
    record: DatasetRecord,
    repo_id: str,
    *,
    private: bool = True,
    heed: Callable[[bool], None] = heedless,
    allowed_licences: Collection[str] = (),
    token: str | None = None,
    endpoint: str | None = None,
) -> Published:
    """Put the data set into a repository of the Hub in one commit, read it back and compare.

    A repository that does not exist is created with the visibility asked for; no visibility is ever changed. Where one
    of ours exists, it gets another commit, and none if it holds the same: so a run that was killed is simply repeated.
    `allowed_licences` names those that forbid sharing and are to be shared all the same. `heed` is called before the
    Hub is changed, the last time (True) with all files there and only the commit to come, and may raise.

    Raises BadInput where benchmark items may still be in the rows, where the licence forbids it, or where the
    repository is another's, is not as private or public as asked, or may not be written; Conflict where somebody else
    committed meanwhile; and Unavailable where the Hub is out of reach or holds something else than was sent.
    """
    from huggingface_hub import HfApi

    _require(_uncleaned(record))
    _require(_forbidden(record, allowed_licences))
    api = HfApi(endpoint=endpoint, token=token)
    with tempfile.TemporaryDirectory(prefix="postgrad-publish-") as folder, hub_errors(repo_id, endpoint=api.endpoint):
        user = str(patiently(api.whoami)["name"])
        name = repo_id if "/" in repo_id else f"{user}/{repo_id}"
        files = _build(record, name, Path(folder) / "files")
        info = _repository(api, name, private, heed)
        tree = tree_of(api, name, str(info.sha))
        there = read_card(api, name, tree, str(info.sha))
        if tree.keys() - OF_THE_HUB and not mark_of(there):
            raise BadInput(f"{name} holds a data set that postgrad did not make; choose another name")
        data = {path: file for path, file in files.items() if path != CARD}
        same = mark_of(there) == mark_of(files[CARD].read_text(encoding="utf-8"))
        changed = not (same and all(holds(tree.get(path), file) for path, file in data.items()))
        revision = _commit(api, name, files, tree, str(info.sha), heed) if changed else str(info.sha)
        _read_back(api, name, data, revision, Path(folder) / "cache")
        return Published(
            repo_id=name,
            revision=revision,
            url=f"{api.endpoint}/datasets/{name}",
            files=tuple(files),
            bytes=sum(file.stat().st_size for file in files.values()),
            private=private,
            changed=changed,
        )


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
    names = [name for name in licences(record.licence) if _FORBIDS.search(name) and name.lower() not in known]
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


def _is_ours(card: Path) -> bool:
    return card.is_file() and bool(mark_of(card.read_text(encoding="utf-8", errors="replace")))


def _replace(files: Mapping[str, Path], folder: Path) -> None:
    """Bring a folder of ours up to date. The card goes first: it is what a run after a crash knows the folder by."""
    rendered = files[CARD].read_text(encoding="utf-8")
    if not _is_ours(folder / CARD) or mark_of((folder / CARD).read_text(encoding="utf-8")) != mark_of(rendered):
        write_atomically(folder / CARD, rendered.encode())
    (folder / DATA).mkdir(exist_ok=True)
    for name, file in files.items():
        there = folder / name
        if name != CARD and not (there.is_file() and digest_of(there) == digest_of(file)):
            file.replace(there)
    for left in set((folder / DATA).glob("train-*.parquet")) - {folder / name for name in files}:
        left.unlink()


def _repository(api: HfApi, repo_id: str, private: bool, heed: Callable[[bool], None]) -> DatasetInfo:
    """The repository, created where it does not exist. Raises BadInput where it is not as private as asked."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = patiently(lambda: api.dataset_info(repo_id))
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        heed(False)
        patiently(lambda: api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True))
        info = patiently(lambda: api.dataset_info(repo_id))
    if private and not info.private:
        raise BadInput(f"{repo_id} is public and the data was to stay private; choose another name, or ask for public")
    if info.private and not private:
        raise BadInput(f"{repo_id} is private, and publishing makes nothing public; change that on its page first")
    return info


def _commit(
    api: HfApi,
    repo_id: str,
    files: Mapping[str, Path],
    tree: Mapping[str, RepoFile],
    parent: str,
    heed: Callable[[bool], None],
) -> str:
    """One commit on top of `parent` that brings the files and takes Parquet files of an earlier one away; its sha."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    left = [path for path in tree if path.startswith(f"{DATA}/train-") and path not in files]
    additions = [CommitOperationAdd(path, file) for path, file in files.items()]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *additions,
        *(CommitOperationDelete(path) for path in left),
    ]
    heed(False)
    # What takes long goes first: until the commit nobody can see it, and there is a way back.
    patiently(lambda: api.preupload_lfs_files(repo_id, additions, repo_type="dataset", free_memory=False))
    heed(True)
    try:
        commit = patiently(
            lambda: api.create_commit(
                repo_id, operations, commit_message="Publish the data set", repo_type="dataset", parent_commit=parent
            )
        )
    except ValueError as error:
        if isinstance(error, OSError):  # of the Hub, and told elsewhere
            raise
        raise BadInput(f"the Hub refuses the card of {repo_id} ({' '.join(str(error).split())}); report it") from error
    return str(commit.oid)


def _read_back(api: HfApi, repo_id: str, files: Mapping[str, Path], revision: str, cache: Path) -> None:
    """Raise Unavailable where the Hub does not list, or does not give back, the Parquet files byte for byte."""
    tree = tree_of(api, repo_id, revision)
    if not all(holds(tree.get(path), file) for path, file in files.items()):
        raise Unavailable(f"{repo_id} at {revision[:8]} does not hold what was sent; run again, or look at its page")
    fetch(api, repo_id, [tree[path] for path in files], revision, cache)
