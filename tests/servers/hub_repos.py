"""Repositories as the Hub keeps them: commits named by their content, refs, and blobs in git or in LFS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import yaml

LFS_SUFFIXES = (".parquet", ".arrow", ".gz", ".zst", ".zip", ".safetensors", ".bin")
"""What `.gitattributes` of a new repository sends to LFS whatever its size."""
LFS_BYTES = 10 * 2**20
"""Larger files go to LFS too."""
CONVERTED = "refs/convert/parquet"
"""The branch that the data set viewer writes."""


def goes_to_lfs(path: str, size: int) -> bool:
    return path.endswith(LFS_SUFFIXES) or size > LFS_BYTES


@dataclass(frozen=True)
class Blob:
    """A file's content."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What git holds in place of a file in LFS."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        ).encode()

    @cached_property
    def oid(self) -> str:
        """git's name of the blob."""
        stored = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def entry(self, path: str) -> dict[str, Any]:
        """The file in a listing."""
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return entry


def folders_of(files: Iterable[str]) -> set[str]:
    """The folders that the files of a commit are in."""
    return {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}


def entry_of(files: Mapping[str, Blob], path: str) -> dict[str, Any]:
    """A file or a folder in a listing."""
    if path in files:
        return files[path].entry(path)
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str
    title: str
    files: Mapping[str, Blob]
    number: int
    """Of the repository's commits, oldest first; stands for the time."""

    @property
    def date(self) -> str:
        return f"2026-01-01T00:{self.number // 60:02}:{self.number % 60:02}.000Z"


@dataclass
class Repo:
    """A repository of one kind, with who may read it."""

    id: str
    kind: Literal["datasets", "models"] = "datasets"
    private: bool = False
    gated: bool = False
    readers: frozenset[str] = frozenset()
    """Users with access to a gated or private repository, beside its owner."""
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    @property
    def head(self) -> Commit:
        return self.commits[self.refs["main"]]

    def commit(
        self, add: Mapping[str, Blob], *, delete: Iterable[str] = (), title: str = "upload", ref: str = "main"
    ) -> Commit:
        """The new head of `ref`; its name is a digest of what it holds and comes from."""
        parent = self.refs.get(ref, "")
        gone = set(delete)
        before = self.commits[parent].files if parent else {}
        files = {path: blob for path, blob in before.items() if path not in gone} | dict(add)
        content = json.dumps([self.id, parent, title, sorted((path, blob.oid) for path, blob in files.items())])
        commit = Commit(hashlib.sha1(content.encode()).hexdigest(), parent, title, files, len(self.commits))
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        return commit

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a ref or a sha names."""
        return self.commits.get(self.refs.get(revision, revision))

    def history(self, commit: Commit) -> list[Commit]:
        """From `commit` back to the first one."""
        return [commit, *(self.history(self.commits[commit.parent]) if commit.parent else ())]

    def info(self, commit: Commit) -> dict[str, Any]:
        """What the API says of the repository at a commit."""
        card = commit.files.get("README.md")
        return {
            "_id": "0", "id": self.id, "author": self.owner, "sha": commit.oid, "lastModified": commit.date,
            "private": self.private, "gated": "manual" if self.gated else False, "disabled": False, "tags": [],
            "cardData": front_matter(card.content) if card else {},
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }  # fmt: skip


def front_matter(card: bytes) -> dict[str, Any]:
    """The YAML at the head of a card; raises yaml.YAMLError where it is none."""
    parts = card.decode().split("---\n", 2)
    return (yaml.safe_load(parts[1]) or {}) if len(parts) == 3 and not parts[0] else {}
