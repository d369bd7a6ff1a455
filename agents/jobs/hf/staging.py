"""What a job on HF Jobs reads and leaves behind: one private data set repository a run, one folder in it a job.

KEY/keep.py, config.json, train.py, …   what the job reads, mounted as /job at the commit that brought it
KEY/model/, KEY/adapter/, …             folders of this machine that its config names
KEY/out/, KEY/log.txt                   what it made and printed, put there by keep.py
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from agents.hub_client import holds
from agents.jobs.hf.client import patiently, status_of
from shared_memory.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

KEEP = Path(__file__).parents[1] / "scripts" / "keep.py"
MOUNT = "/job"
"""Where a job finds its folder of the repository, read-only."""
FOLDERS = ("model", "adapter", "resume_from", "teacher")
"""Keys of a config whose value may be a folder of this machine, which then travels with the job."""
KIND = "dataset"
OUT, LOG = "out", "log.txt"
PARTS = ".fetched"
"""Folder of downloads that are not whole yet."""


def repo_of(namespace: str, run_id: str) -> str:
    """The repository of a run's jobs."""
    return f"{namespace}/postgrad-{run_id}"


def stage(api: HfApi, repo_id: str, key: str, folder: Path, files: list[str]) -> str:
    """Put the job's files, config and local folders into the run's repository in one commit; returns its sha.

    Staging again what is there already makes no commit. Raises BadInput where the repository is not private or may not
    be written.
    """
    from huggingface_hub import CommitOperationAdd

    what = f"bringing the job's files to {repo_id}"
    patiently(lambda: api.create_repo(repo_id, repo_type=KIND, private=True, exist_ok=True), what)
    if not patiently(lambda: api.dataset_info(repo_id), what).private:
        raise BadInput(f"{repo_id} is public, and a job's files are not for everybody; make it private, then resume")
    config, folders = _moved(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    sources: dict[str, Path | bytes] = {name: folder / name for name in files}
    sources |= {KEEP.name: KEEP, "config.json": json.dumps(config, indent=2, ensure_ascii=False).encode()}
    for name, path in folders.items():
        sources |= {f"{name}/{file.relative_to(path).as_posix()}": file for file in _files_of(path)}
    operations = [CommitOperationAdd(f"{key}/{name}", source) for name, source in sources.items()]
    message = f"Stage job {key}"
    commit = patiently(lambda: api.create_commit(repo_id, operations, commit_message=message, repo_type=KIND), what)
    return str(commit.oid)


def folders_of(config: dict[str, Any]) -> tuple[str, ...]:
    """The folders of this machine that travel with a job of this config."""
    return tuple(map(str, _moved(config)[1].values()))


def _moved(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    """The config as the job is to read it, and the folders that it names: name in the repository → folder here."""
    moved, folders = dict(config), dict[str, Path]()
    for name in FOLDERS:
        value = config.get(name)
        if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_dir():
            moved[name] = f"{MOUNT}/{name}"
            folders[name] = Path(value)
    return moved, folders


def _files_of(folder: Path) -> list[Path]:
    """All files but hidden ones, which no model needs and which may hold what is nobody's business."""
    shown = (path for path in folder.rglob("*") if not any(part[0] == "." for part in path.relative_to(folder).parts))
    return sorted(path for path in shown if path.is_file())


def fetch_out(api: HfApi, repo_id: str, key: str, folder: Path) -> None:
    """Bring the job's kept `out/` to `folder`, each file of the digest that the Hub has for it.

    Raises Unavailable where the job left nothing behind, or a file came damaged.
    """
    what = f"fetching what job {key} made"
    kept = _kept(api, repo_id, key, what)
    if f"{key}/{LOG}" not in kept:
        raise Unavailable(f"job {key} left nothing in {repo_id}; look at its log with `postgrad logs`")
    parts = folder / PARTS
    for path, entry in kept.items():
        name = PurePosixPath(path).relative_to(key)
        if name.parts[0] != OUT or ".." in name.parts or _has(folder / name, entry):
            continue
        got = Path(patiently(partial(api.hf_hub_download, repo_id, path, repo_type=KIND, local_dir=parts), what))
        if not holds(entry, got):
            shutil.rmtree(parts)
            raise Unavailable(f"{name} of job {key} came damaged; resume, and it is fetched again")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        got.replace(folder / name)
    shutil.rmtree(parts, ignore_errors=True)


def kept_log(api: HfApi, repo_id: str, key: str, scratch: Path) -> bytes | None:
    """The whole output of a job as keep.py wrote it down; None where it was not kept."""
    what = f"reading the log of job {key}"
    if f"{key}/{LOG}" not in _kept(api, repo_id, key, what):
        return None
    try:
        download = partial(api.hf_hub_download, repo_id, f"{key}/{LOG}", repo_type=KIND, local_dir=scratch / PARTS)
        return Path(patiently(download, what)).read_bytes()
    finally:
        shutil.rmtree(scratch / PARTS, ignore_errors=True)


def _kept(api: HfApi, repo_id: str, key: str, what: str) -> dict[str, RepoFile]:
    """The files in the job's folder of the repository, by path."""
    from huggingface_hub.hf_api import RepoFile

    def entries() -> list[Any]:
        return list(api.list_repo_tree(repo_id, key, recursive=True, repo_type=KIND))

    try:
        found = patiently(entries, what)
    except BadInput as error:
        if status_of(error) == 404:
            return {}
        raise
    return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}


def _has(path: Path, entry: RepoFile) -> bool:
    return path.is_file() and holds(entry, path)
