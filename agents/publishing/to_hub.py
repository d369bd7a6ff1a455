"""Puts files into a repository of the Hub: one commit, nothing of anybody else's touched, read back and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.hub_client import NOUNS, Kind, fetch, holds, hub_errors, page_of, patiently, read_card, tree_of
from agents.publishing.cards import CARD, mark_of
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import Record

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OF_THE_HUB = frozenset({".gitattributes"})
"""What a repository holds when nothing was put into it."""

Heed = Callable[[bool], None]
Files = Mapping[str, Path]
"""Name in the repository → file; the card is one of them."""


class Published(Record):
    """A repository of the Hub, as it was read back."""

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


def heedless(last: bool) -> None:
    """Nobody who publishes is to be stopped."""


def push(
    build: Callable[[str], Files],
    repo_id: str,
    *,
    kind: Kind,
    private: bool,
    is_ours: Callable[[str], bool],
    heed: Heed = heedless,
    token: str | None = None,
    endpoint: str | None = None,
) -> Published:
    """Put what `build` makes for a repository's full name into it in one commit, read it back and compare.

    A repository that does not exist is created with the visibility asked for; no visibility is ever changed. Where one
    of ours exists, it gets another commit, and none if it holds the same: so a run that was killed is simply repeated,
    and what was uploaded whole is not uploaded again. Files there that `is_ours` says an earlier publication made go
    with that commit; others stay. `heed` is called before the Hub is changed, the last time (True) with all files there
    and only the commit to come, and may raise.

    Raises BadInput where the repository is another's, is not as private or public as asked, or may not be written;
    Conflict where somebody else committed meanwhile; and Unavailable where the Hub is out of reach or holds something
    else than was sent.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=token)
    with hub_errors(repo_id, endpoint=api.endpoint, kind=kind):
        user = str(patiently(api.whoami)["name"])
        name = repo_id if "/" in repo_id else f"{user}/{repo_id}"
        files = build(name)
        head = str(_repository(api, name, kind, private, heed).sha)
        tree = tree_of(api, name, head, kind)
        there = read_card(api, name, tree, head, kind)
        if tree.keys() - OF_THE_HUB and not mark_of(there):
            raise BadInput(f"{name} holds a {NOUNS[kind]} that postgrad did not make; choose another name")
        content = {path: file for path, file in files.items() if path != CARD}
        left = [path for path in tree if is_ours(path) and path not in files]
        same = mark_of(there) == mark_of(files[CARD].read_text(encoding="utf-8")) and not left
        changed = not (same and all(holds(tree.get(path), file) for path, file in content.items()))
        revision = _commit(api, name, kind, files, left, head, heed) if changed else head
        _read_back(api, name, kind, content, revision)
        return Published(
            repo_id=name,
            revision=revision,
            url=page_of(name, api.endpoint, kind),
            files=tuple(files),
            bytes=sum(file.stat().st_size for file in files.values()),
            private=private,
            changed=changed,
        )


def _repository(api: HfApi, repo_id: str, kind: Kind, private: bool, heed: Heed) -> Any:
    """The repository, created where it does not exist. Raises BadInput where it is not as private as asked."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = patiently(lambda: api.repo_info(repo_id, repo_type=kind))
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        heed(False)
        patiently(lambda: api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True))
        info = patiently(lambda: api.repo_info(repo_id, repo_type=kind))
    if private and not info.private:
        raise BadInput(
            f"{repo_id} is public and this {NOUNS[kind]} was to stay private; choose another name, or ask for public"
        )
    if info.private and not private:
        raise BadInput(f"{repo_id} is private, and publishing makes nothing public; change that on its page first")
    return info


def _commit(api: HfApi, repo_id: str, kind: Kind, files: Files, left: list[str], parent: str, heed: Heed) -> str:
    """One commit on top of `parent` that brings the files and takes those `left` by an earlier one away; its sha."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    additions = [CommitOperationAdd(path, file) for path, file in files.items()]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *additions,
        *(CommitOperationDelete(path) for path in left),
    ]
    heed(False)
    # What takes long goes first: until the commit nobody can see it, and there is a way back.
    patiently(lambda: api.preupload_lfs_files(repo_id, additions, repo_type=kind, free_memory=False))
    heed(True)
    try:
        commit = patiently(
            lambda: api.create_commit(
                repo_id,
                operations,
                commit_message=f"Publish the {NOUNS[kind]}",
                repo_type=kind,
                parent_commit=parent,
            )
        )
    except ValueError as error:
        if isinstance(error, OSError):  # of the Hub, and told elsewhere
            raise
        raise BadInput(f"the Hub refuses the card of {repo_id} ({' '.join(str(error).split())}); report it") from error
    return str(commit.oid)


def _read_back(api: HfApi, repo_id: str, kind: Kind, files: Files, revision: str) -> None:
    """Raise Unavailable where the Hub does not list, or does not give back, the files byte for byte.

    One at a time, into a folder that goes at once: the disk holds one more file, not one more model.
    """
    tree = tree_of(api, repo_id, revision, kind)
    if not all(holds(tree.get(path), file) for path, file in files.items()):
        raise Unavailable(f"{repo_id} at {revision[:8]} does not hold what was sent; run again, or look at its page")
    for path in files:
        with tempfile.TemporaryDirectory(prefix="postgrad-publish-") as cache:
            fetch(api, repo_id, [tree[path]], revision, Path(cache), kind)
