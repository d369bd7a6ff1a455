"""Which files of a data set on the Hub make up which config and split: by its card, else by the names of the files.

The rules are those of the `datasets` library, without its guesses that leave files out in silence: a file that names no
split belongs to `train`, and folders side by side are configs that a person chooses from.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from operator import or_
from pathlib import Path
from typing import Any

from agents.reading.files import READERS, ending_of
from shared_memory.errors import BadInput

PREFERRED = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""Repositories often hold the same rows in several formats: the first of these that there is, is read."""
IGNORED = frozenset({"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""JSON files that hold no rows [datasets, FILES_TO_IGNORE]."""
KEYWORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "dev": "validation", "val": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""Word in a name → split [datasets, SPLIT_KEYWORDS]."""
DEFAULT = "default"
PARTIAL = "partial-"
"""Before a split of the converted branch that holds the first 5 GB only."""
_SHARD = re.compile(r"(?P<split>\w+(?:\.\w+)*)-(?P<number>\d{5})-of-(?P<of>\d{5})")

Splits = Mapping[str, tuple[str, ...]]
"""Split → its files, by name."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a data set offers."""

    configs: Mapping[str, Splits]
    default: str = ""
    """The config that its card calls the default one."""

    def choose(self, repo_id: str, config: str, split: str) -> tuple[str, Splits]:
        """The name of one config, and its splits or the one asked for.

        Raises BadInput, with the names there are, where the choice is left open or does not exist.
        """
        name = config or self._obvious()
        known = _listed(self.configs)
        if not name:
            example = f"{repo_id}:{next(iter(self.configs))}"
            raise BadInput(f"{repo_id} has the configs {known}; name the one to read, as in {example}")
        if name not in self.configs:
            raise BadInput(f"{repo_id} has no config `{name}`; it has {known}")
        splits = self.configs[name]
        if split and split not in splits:
            raise BadInput(f"{repo_id} has no split `{split}`; config {name} has {_listed(splits)}")
        return name, {split: splits[split]} if split else splits

    def _obvious(self) -> str:
        if len(self.configs) == 1:
            return next(iter(self.configs))
        return next((name for name in (self.default, DEFAULT) if name in self.configs), "")


def layout_of(paths: Iterable[str], metadata: Mapping[str, Any]) -> Layout:
    """The configs of a repository with these files, of which `metadata` is the YAML of the card.

    Configs without a file that can be read are left out.
    """
    readable = sorted(path for path in paths if _holds_rows(path))
    declared = [entry for entry in _list(metadata.get("configs")) if isinstance(entry, dict)]
    if not declared:
        return Layout(_inferred_configs(readable))
    named = [(_text(entry.get("config_name")) or DEFAULT, entry) for entry in declared]
    configs = {name: _declared_splits(readable, entry) for name, entry in named}
    default = next((name for name, entry in named if entry.get("default") is True), "")
    return Layout({name: splits for name, splits in configs.items() if splits}, default)


def converted_layout(paths: Iterable[str]) -> Layout:
    """The configs of the branch that the Hub's viewer converts to: `CONFIG/SPLIT/0000.parquet`.

    A config that was converted in part is left out.
    """
    configs: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    partial = set()
    for path in sorted(paths):
        parts = path.split("/")
        if len(parts) == 3 and path.endswith(".parquet"):
            configs[parts[0]][parts[1]].append(path)
            if parts[1].startswith(PARTIAL):
                partial.add(parts[0])
    return Layout({name: _frozen(splits) for name, splits in configs.items() if name not in partial})


def require_all_shards(repo_id: str, paths: Iterable[str]) -> None:
    """Raise BadInput where files that are numbered `00000-of-00003` are not three."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for path in paths:
        if shard := _SHARD.search(path):
            found[path[: shard.start("number")], shard["of"]] += 1
    for (name, of), count in found.items():
        if count < int(of):
            raise BadInput(f"{repo_id} has {count} of the {int(of)} files {name}*; name a revision that has them all")


def _holds_rows(path: str) -> bool:
    hidden = any(part.startswith((".", "__")) for part in path.split("/"))
    return ending_of(Path(path)) in READERS and not hidden and Path(path).name not in IGNORED


def _format(path: str) -> str:
    """`.jsonl` of `train.jsonl.gz` too."""
    return next((ending for ending in PREFERRED if ending_of(Path(path)).startswith(ending)), "")


def _declared_splits(paths: Sequence[str], entry: Mapping[str, Any]) -> Splits:
    """The splits of one of the card's `configs`; its patterns are relative to its `data_dir`."""
    folder = f"{_text(entry.get('data_dir')).strip('/')}/".lstrip("/")
    inside = [path for path in paths if path.startswith(folder)]
    if "data_files" not in entry:
        return _inferred_splits(inside)
    splits: dict[str, list[str]] = defaultdict(list)
    for files in _list(entry["data_files"]):
        split, patterns = ("train", files)
        if isinstance(files, dict):
            split, patterns = _text(files.get("split")) or "train", files.get("path")
        for pattern in map(_text, _list(patterns)):
            parts = (folder + pattern.removeprefix("./")).split("/")
            splits[split] += [path for path in inside if path not in splits[split] and _matches(parts, path.split("/"))]
    return _frozen(splits)


def _matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a card's pattern fits a path, both as parts; `**` stands for any number of folders.

    Filled in step by step, so that no card can make it slow: patterns are what strangers write.
    """
    fits = [True, *[False] * len(path)]
    """Whether the pattern so far fits the first N parts."""
    for part in pattern:
        if part == "**":
            fits = list(accumulate(fits, or_))
        else:
            fits = [False, *(ok and fnmatchcase(name, part) for ok, name in zip(fits, path, strict=False))]
    return fits[-1]


def _inferred_configs(paths: Sequence[str]) -> Mapping[str, Splits]:
    """One config for the files in the root, in `data/` or in a split's folder, and one for each other folder."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder = path.split("/")[0] if "/" in path else ""
        groups[folder if folder not in {"", "data", *KEYWORDS} else DEFAULT].append(path)
    return {name: _inferred_splits(group) for name, group in groups.items()}


def _inferred_splits(paths: Sequence[str]) -> Splits:
    """The splits of files in the best of their formats."""
    found = set(map(_format, paths))
    best = next((ending for ending in PREFERRED if ending in found), "")
    splits: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        if _format(path) == best:
            splits[_split_of(path)].append(path)
    return _frozen(splits)


def _split_of(path: str) -> str:
    """The split that a file's folders or its name tell of; `train` where they tell of none."""
    *folders, name = path.split("/")
    shard = _SHARD.match(name)
    if shard and folders[-1:] == ["data"]:
        return KEYWORDS.get(shard["split"], shard["split"])
    words = [*reversed(folders), *re.split(r"[-._ 0-9]+", name)]
    return next((KEYWORDS[word.lower()] for word in words if word.lower() in KEYWORDS), "train")


def _frozen(splits: Mapping[str, Sequence[str]]) -> Splits:
    return {split: tuple(files) for split, files in splits.items() if files}


def _text(value: Any) -> str:
    """A name or pattern of the card; whatever else stands there is none."""
    return "".join(filter(str.isprintable, str(value))) if isinstance(value, str | int | float) else ""


def _listed(names: Collection[str], most: int = 20) -> str:
    """Names for an error: all, or the first ones and how many there are."""
    shown = ", ".join(list(names)[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


def _list(value: Any) -> list[Any]:
    """A value of the card that may be one or several."""
    return value if isinstance(value, list) else [] if value is None else [value]
