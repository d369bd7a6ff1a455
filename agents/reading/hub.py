"""A data set on the Hugging Face Hub, read as files at a pinned commit; no code of the repository is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.hub_client import fetch, front_matter, hub_errors, patiently, read_card, tree_of
from agents.reading.hub_layout import PREFERRED, Layout, converted_layout, layout_of, require_all_shards
from shared_memory.errors import BadInput

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONVERTED = "refs/convert/parquet"
"""The branch that the Hub's data set viewer writes."""


@dataclass(frozen=True, slots=True)
class HubSnapshot:
    """Files of a data set, whole and on this machine."""

    repo_id: str
    revision: str
    """Commit of the repository, 40 hex digits."""
    config: str
    files: tuple[tuple[str, Path], ...]
    """(split, file), in the order of the splits and of the names in the repository."""
    licence: str
    """As the card has it, several joined with `, `; empty where it says nothing."""
    gated: bool
    """Whether its readers have to accept terms."""
    private: bool
    card: str
    """Text of README.md, which others wrote."""
    converted: str = ""
    """Commit of CONVERTED that the files come from; empty where they are the repository's own."""


def snapshot(
    repo_id: str,
    *,
    revision: str = "",
    config: str = "",
    split: str = "",
    endpoint: str | None = None,
    token: str | None = None,
) -> HubSnapshot:
    """The files of one config of a data set, all its splits or the one named; a file that the cache has is not fetched.

    They are the repository's own Parquet, JSONL, JSON, CSV or TSV files; where it has none, or a loading script would
    make its rows, the viewer's Parquet conversion of the newest commit, if it is complete. Endpoint and token are the
    client's own where they are left out (HF_ENDPOINT, HF_TOKEN, `hf auth login`). Raises BadInput for a data set that
    is unknown, private, gated or has no such config, split or readable file, and Unavailable where the Hub is out of
    reach or a download broke off: what is returned is whole, in size and digest.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=token)
    with hub_errors(repo_id, revision=revision, endpoint=api.endpoint):
        info = patiently(lambda: api.dataset_info(repo_id, revision=revision or None))
        commit = str(info.sha)
        tree = tree_of(api, repo_id, commit)
        card = read_card(api, repo_id, tree, commit)
        metadata = front_matter(card)
        layout, converted = layout_of(tree, metadata), ""
        if not layout.configs or f"{repo_id.rpartition('/')[2]}.py" in tree:
            newest = not revision or patiently(lambda: api.dataset_info(repo_id)).sha == commit
            found = _converted_commit(api, repo_id, commit) if newest else ""
            files = tree_of(api, repo_id, found) if found else {}
            if complete := converted_layout(files).configs:
                layout, tree, converted = Layout(complete, layout.default), files, found
        name, splits = _choose(layout, repo_id, config, split)
        require_all_shards(repo_id, [path for paths in splits.values() for path in paths])
        wanted = [(part, tree[path]) for part, paths in splits.items() for path in paths]
        paths = fetch(api, repo_id, [file for _, file in wanted], converted or commit)
    return HubSnapshot(
        repo_id=repo_id,
        revision=commit,
        config=name,
        files=tuple((part, path) for (part, _), path in zip(wanted, paths, strict=True)),
        licence=licence_of(metadata),
        gated=bool(info.gated),
        private=bool(info.private),
        card=card,
        converted=converted,
    )


def licence_of(metadata: Mapping[str, Any]) -> str:
    """The licence by the name that says most, several joined with `, `."""
    value = metadata.get("license")
    if value == "other" and metadata.get("license_name"):
        value = metadata["license_name"]
    return ", ".join(entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, str))


def _choose(layout: Layout, repo_id: str, config: str, split: str) -> tuple[str, Mapping[str, tuple[str, ...]]]:
    if not layout.configs:
        raise BadInput(
            f"{repo_id} holds no file that can be read ({', '.join(PREFERRED)}) and its viewer no complete "
            "conversion to Parquet; no script of a data set is run: convert it yourself and give the files"
        )
    return layout.choose(repo_id, config, split)


def _converted_commit(api: HfApi, repo_id: str, commit: str) -> str:
    """The newest commit of the viewer's branch, where it was made after `commit`; empty otherwise."""
    refs = patiently(lambda: api.list_repo_refs(repo_id, repo_type="dataset"))
    found = next((str(ref.target_commit) for ref in refs.converts if ref.ref == CONVERTED), "")
    if not found:
        return ""
    own, converted = (
        patiently(lambda at=at: api.list_repo_commits(repo_id, repo_type="dataset", revision=at)[0].created_at)  # type: ignore[misc]
        for at in (commit, found)
    )
    return found if converted >= own else ""
