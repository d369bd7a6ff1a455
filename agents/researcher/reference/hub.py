"""Models and data sets on the Hugging Face Hub: searched, and described by card, configuration, size and licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from agents import hub_client
from agents.hub_client import Kind, front_matter, hub_errors, page_of, patiently
from agents.reading.hub import licence_of
from agents.researcher.addresses import base
from agents.researcher.library import DAY, Library, Page, is_offline
from agents.researcher.reference.hub_facts import (
    configs_of,
    count,
    in_short,
    listed,
    shape,
    tag,
    tagged,
    told_bytes,
    told_columns,
    told_split,
)
from agents.researcher.reference.pages import Piece, show
from shared_memory.errors import BadInput, PostgradError, Unavailable

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo, RepoFile

SORTS = {
    "downloads": "downloads", "likes": "likes", "trending": "trending_score", "created": "created_at",
    "modified": "last_modified",
}  # fmt: skip
"""What a list may be sorted by → what the Hub's client calls it; always the largest, or newest, first."""
MOST = 100
"""Entries of one list."""
LARGEST_CONFIG = 1_000_000
"""Bytes."""
MOST_CONFIGS = 12
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def find_models(
    words: str = "",
    *,
    task: str = "",
    author: str = "",
    library: str = "",
    licence: str = "",
    language: str = "",
    trained_on: str = "",
    base_model: str = "",
    max_parameters: float = 0,
    sort: str = "downloads",
    limit: int = 20,
) -> str:
    """Models on the Hub, one a line: id, parameters, licence, downloads, likes, gated or not.

    task: `text-generation`; library: `transformers`; language: `en`; max_parameters: in thousand millions, 0 for any;
    sort: `downloads`, `likes`, `trending`, `created` or `modified`. Raises BadInput for a `sort` that is none.
    """
    tags = [library, language, licence and f"license:{licence}", base_model and f"base_model:{base_model}"]
    api = _api()
    with hub_errors("a list of models", endpoint=api.endpoint):
        listed = api.list_models(
            search=words or None, author=author or None, pipeline_tag=task or None, sort=_sort(sort),
            filter=list(filter(None, tags)) or None, trained_dataset=trained_on or None,
            num_parameters=f"max:{max_parameters:g}B" if max_parameters else None, limit=min(limit, MOST),
            expand=["downloads", "likes", "gated", "safetensors", "tags", "pipeline_tag", "createdAt"],
        )  # fmt: skip
        lines = [_model_line(info) for info in listed]
    asked = _asked(words, task, author, *tags, trained_on)
    return _list(lines, "models", asked, sort)


def find_datasets(
    words: str = "",
    *,
    task: str = "",
    author: str = "",
    licence: str = "",
    language: str = "",
    size: str = "",
    sort: str = "downloads",
    limit: int = 20,
) -> str:
    """Data sets on the Hub, one a line: id, size category, licence, downloads, likes, gated or not.

    size: a category of the Hub, such as `10K<n<100K`. The rest as for models.
    """
    api = _api()
    with hub_errors("a list of data sets", endpoint=api.endpoint):
        listed = api.list_datasets(
            search=words or None, author=author or None, task_categories=task or None, language=language or None,
            size_categories=size or None, sort=_sort(sort), filter=f"license:{licence}" if licence else None,
            limit=min(limit, MOST), expand=["downloads", "likes", "gated", "tags", "createdAt"],
        )  # fmt: skip
        lines = [_dataset_line(info) for info in listed]
    asked = _asked(words, task, author, licence, language, size)
    return _list(lines, "data sets", asked, sort)


def describe_model(repo_id: str, revision: str = "") -> str:
    """Architecture, context, vocabulary, parameters, licence, access and what its card's metadata say.

    Raises BadInput for a model that is unknown or may not be read.
    """
    api = _api()
    with hub_errors(repo_id, revision=revision, endpoint=api.endpoint, kind="model"):
        info = patiently(lambda: api.model_info(repo_id, revision=revision or None))
        tree = hub_client.tree_of(api, repo_id, str(info.sha), "model")
    try:
        built = shape(_config(api, repo_id, tree, str(info.sha)), "chat_template.jinja" in tree)
    except BadInput as error:  # gated: the rest is open to everybody
        built = f"Configuration: {error}"
    told = filter(None, (info.pipeline_tag, info.library_name))
    lines = [
        f"{repo_id} at {str(info.sha)[:12]}: model, {', '.join(told) or 'no task named'}",
        _access(api, repo_id, "model", _card_of(info), info.gated),
        _parameters(info, tree),
        built,
        tagged(info.tags or (), ("base_model:", "dataset:", "arxiv:", "language:")),
        _use(info),
    ]
    return "\n".join(filter(None, lines))


def describe_dataset(repo_id: str, revision: str = "", library: Library | None = None) -> str:
    """Configs, splits, rows, bytes, columns with types, licence, access and what its card's metadata say.

    library: where the data set viewer is asked through, which knows the newest revision only; without it there is
    what the card says. Raises BadInput for a data set that is unknown or may not be read.
    """
    api = _api()
    with hub_errors(repo_id, revision=revision, endpoint=api.endpoint):
        info = patiently(lambda: api.dataset_info(repo_id, revision=revision or None))
        tree = hub_client.tree_of(api, repo_id, str(info.sha))
    card = _card_of(info)
    size = told_bytes(file.size for file in tree.values())
    lines = [
        f"{repo_id} at {str(info.sha)[:12]}: data set, {len(tree)} files of {size}",
        _access(api, repo_id, "dataset", card, info.gated),
        _rows(repo_id, card, library if not revision else None),
        tagged(info.tags or (), ("task_categories:", "size_categories:", "language:", "arxiv:", "source_datasets:")),
        _use(info),
    ]
    return "\n".join(filter(None, lines))


def read_card(repo_id: str, kind: Kind = "model", section: str = "", offset: int = 0, revision: str = "") -> Piece:
    """The card's contents and beginning, or one of its sections; kind: `model` or `dataset`.

    Raises BadInput for a repository that is unknown or may not be read, and for a section that is not there.
    """
    api = _api()
    with hub_errors(repo_id, revision=revision, endpoint=api.endpoint, kind=kind):
        info = patiently(lambda: api.repo_info(repo_id, revision=revision or None, repo_type=kind))
        sha = str(info.sha)
        card = hub_client.read_card(api, repo_id, hub_client.tree_of(api, repo_id, sha, kind), sha, kind)
    if not card:
        raise BadInput(f"{repo_id} has no card; describe it instead")
    metadata = front_matter(card)
    text = card.split("\n---", 1)[1].lstrip("-") if metadata else card
    shown = show(f"card of {repo_id} at {sha[:12]}", text, section, offset)
    if section or offset or not metadata:
        return shown
    return Piece(f"{shown}\n\nMetadata: {in_short(metadata)}", shown.own)


def _api() -> HfApi:
    from huggingface_hub import HfApi

    if is_offline():
        raise Unavailable("the Hub is not asked where POSTGRAD_OFFLINE is set; unset it, or read what is installed")
    return HfApi()


def _sort(name: str) -> Any:
    if name not in SORTS:
        raise BadInput(f"a list is not sorted by `{name}`; give one of {', '.join(SORTS)}")
    return SORTS[name]


def _asked(*values: str) -> str:
    return " ".join(filter(None, values)) or "anything"


def _list(lines: list[str], what: str, asked: str, sort: str) -> str:
    if not lines:
        return f"no {what} fit {asked}; the Hub looks for words in names only: give fewer words or filters"
    return "\n".join([f"{len(lines)} {what} for {asked}, by {sort}:", *lines])


def _model_line(info: ModelInfo) -> str:
    size = f"{count(info.safetensors.total)} parameters" if info.safetensors else "size unknown"
    return _line(info, [size, info.pipeline_tag or ""])


def _dataset_line(info: DatasetInfo) -> str:
    return _line(info, [tag(info.tags, "size_categories:") or "size unknown"])


def _line(info: ModelInfo | DatasetInfo, own: list[str]) -> str:
    parts = [
        info.id,
        *own,
        tag(info.tags, "license:") or "no licence named",
        f"{count(info.downloads or 0)} downloads",
        f"{info.likes or 0:,} likes",
        "gated" if info.gated else "",
        f"made {info.created_at:%Y-%m}" if info.created_at else "",
    ]
    return f"- {' · '.join(filter(None, parts))}"


def _card_of(info: ModelInfo | DatasetInfo) -> dict[str, Any]:
    return dict(info.card_data.to_dict()) if info.card_data else {}  # type: ignore[no-untyped-call]


def _access(api: HfApi, repo_id: str, kind: Kind, card: Mapping[str, Any], gated: Any) -> str:
    licence = licence_of(card) or "none named"
    if not gated:
        return f"Licence: {licence} · open to all"
    how = "its owners say who may" if gated == "manual" else "whoever accepts its terms may"
    return f"Licence: {licence} · gated: {how} read it, at {page_of(repo_id, api.endpoint, kind)}"


def _parameters(info: ModelInfo, tree: Mapping[str, RepoFile]) -> str:
    weights = [file for path, file in tree.items() if path.endswith(WEIGHTS)]
    files = f"weights {told_bytes(file.size for file in weights)} in {len(weights)} files" if weights else "no weights"
    if not info.safetensors:
        return f"Parameters: unknown · {files}"
    by_type = ", ".join(f"{name} {count(number)}" for name, number in info.safetensors.parameters.items())
    return f"Parameters: {count(info.safetensors.total)} ({by_type}) · {files}"


def _config(api: HfApi, repo_id: str, tree: Mapping[str, RepoFile], sha: str) -> dict[str, Any]:
    file = tree.get("config.json")
    if file is None or file.size > LARGEST_CONFIG:
        return {}
    with hub_errors(repo_id, endpoint=api.endpoint, kind="model"):
        (path,) = hub_client.fetch(api, repo_id, [file], sha, kind="model")
    try:
        value = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _rows(repo_id: str, card: Mapping[str, Any], library: Library | None) -> str:
    """Configs with splits and columns, as the viewer knows them, or else the card."""
    configs, note = configs_of(card), "as its card has it"
    if library is not None:
        try:
            found, partial = library.understood(_viewed, f"{base('viewer')}/info", {"dataset": repo_id}, fresh_for=DAY)
            if found:
                configs, note = found, f"as the viewer has it{', the first 5 GB of it' if partial else ''}"
        except PostgradError as error:  # the viewer does not have every data set, and the card may do
            note = f"{note}; the viewer: {error}"
    if not configs:
        return f"Rows and columns: not known ({note})"
    lines = [f"Configs: {len(configs)} ({note})"]
    for name, config in islice(configs.items(), MOST_CONFIGS):
        splits = ", ".join(told_split(split) for split in listed(config.get("splits"))) or "no splits named"
        lines += [f"- {name}: {splits}", f"  columns: {told_columns(config.get('features'))}"]
    more = [f"… and {len(configs) - MOST_CONFIGS} more"] if len(configs) > MOST_CONFIGS else []
    return "\n".join([*lines, *more])


def _viewed(page: Page) -> tuple[dict[str, Any], bool]:
    """Config → what the viewer says of it, and whether it has seen a part only."""
    answer = page.json()
    found = {name: dict(each) for name, each in answer["dataset_info"].items()}
    return found, bool(answer.get("partial"))


def _use(info: ModelInfo | DatasetInfo) -> str:
    changed = f" · changed {info.last_modified:%Y-%m-%d}" if info.last_modified else ""
    return f"Downloads {info.downloads or 0:,} in a month · likes {info.likes or 0:,}{changed}"
