"""From what a person names to files: a file, a folder of files, or a data set on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.reading.files import READERS, ending_of
from agents.reading.hub_layout import IGNORED, KEYWORDS, require_all_shards
from shared_memory.errors import BadInput

HUB = "hf://datasets/"
_HUB_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?")
_CACHES = ("cache-", "tmp")
"""How `datasets` begins the names of files that hold what it computed beside the rows."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of rows, and where it is from."""

    path: Path
    split: str
    """`train`, `validation` or `test`, or what its data set calls it; empty where nothing tells."""
    name: str
    """What to show of it: the path, or the data set and the file's name."""
    given: str = ""
    """What a person named: the file, its folder or its data set."""
    origin: str = ""
    """`org/name` on the Hub; empty for files of one's own."""
    revision: str = ""
    """The Hub's commit."""
    licence: str = ""
    """As the card has it."""
    gated: bool = False
    """Whether one has to accept terms to read it."""

    @property
    def is_measured_on(self) -> bool:
        """Whether its split is there to measure on, not to train on."""
        words = {KEYWORDS.get(word) for word in re.split(r"[-._ 0-9]+", self.split.lower())}
        return "train" not in words and bool(words & {"validation", "test"})


def resolve(names: Sequence[str]) -> list[Source]:
    """The files behind the names, in their order; those of a folder and of a data set by split and name.

    A name is a file, a folder (all its data files, whatever lies how deep), or `org/name`, `org/name@revision`,
    `org/name:config`, with or without `hf://datasets/` before it. Raises BadInput where there is no such file or no
    data in a folder, for a link that leads out of its folder, and as `hub.snapshot` does.
    """
    return [source for name in names for source in _resolved(name)]


def to_train_on(names: Sequence[str]) -> list[Source]:
    """The same without the splits that are there to measure on, where a name has others beside them."""
    chosen = []
    for name in names:
        sources = _resolved(name)
        chosen += [source for source in sources if not source.is_measured_on] or sources
    return chosen


def _resolved(name: str) -> list[Source]:
    if not name.strip():
        raise BadInput("an empty name names no data; give a data file, a folder or a Hub data set")
    path = Path(name)
    if not name.startswith(HUB) and path.is_dir():
        return _in_folder(path, name)
    if name.startswith(HUB) or (not path.exists() and _is_hub_name(name)):
        return _on_the_hub(name)
    return [Source(path, _split_of(Path(path.name)), str(path), name)]


def _is_hub_name(name: str) -> bool:
    """Whether a name that is no path here may be one there; `data/rows.jsonl` is a file that is missing."""
    return bool(_HUB_NAME.fullmatch(name)) and not name.startswith(".") and ending_of(Path(name)) not in READERS


def _on_the_hub(name: str) -> list[Source]:
    found = _HUB_NAME.fullmatch(name.removeprefix(HUB))
    if not found:
        raise BadInput(f"{name} is no data set on the Hub; give org/name, org/name@revision or org/name:config")
    from agents.reading.hub import snapshot

    held = snapshot(found["repo"], revision=found["revision"] or "", config=found["config"] or "")
    return [
        Source(path, split, f"{held.repo_id}/{path.name}", name, held.repo_id, held.revision, held.licence, held.gated)
        for split, path in held.files
    ]


def _in_folder(folder: Path, name: str) -> list[Source]:
    """The data files of a folder and of those in it; hidden ones and what describes data sets are none."""
    inside = folder.resolve()
    files = sorted(path for path in _walk(folder) if _holds_rows(path.relative_to(folder)))
    for path in files:
        if not path.resolve().is_relative_to(inside):
            raise BadInput(f"{path} is a link that leads out of {folder}; name the file it leads to, or remove it")
    if not files:
        raise BadInput(f"{folder} holds no data files; give one with .jsonl, .parquet, .arrow, .csv or .json files")
    require_all_shards(str(folder), [str(path.relative_to(folder)) for path in files])
    found = [Source(path, _split_of(path.relative_to(folder)), str(path), name) for path in files]
    return sorted(found, key=lambda source: (source.is_measured_on, source.path))


def _walk(folder: Path) -> Iterator[Path]:
    """All files; folders behind links are not entered but named, like files, by a link that leads out."""

    def stop(error: OSError) -> None:
        raise BadInput(f"{error.filename} cannot be read ({error.strerror}); check its permissions") from error

    for parent, folders, names in os.walk(folder, onerror=stop):
        for link in (Path(parent, name) for name in folders):
            if link.is_symlink() and not link.resolve().is_relative_to(folder.resolve()):
                raise BadInput(f"{link} is a link that leads out of {folder}; name the folder it leads to")
        yield from (Path(parent, name) for name in names)


def _holds_rows(path: Path) -> bool:
    hidden = any(part.startswith((".", "__")) for part in path.parts)
    known = path.name in IGNORED or (path.suffix == ".arrow" and path.name.startswith(_CACHES))
    return ending_of(path) in READERS and not hidden and not known


def _split_of(path: Path) -> str:
    """The split that a file's name or the folders it is in tell of [datasets, SPLIT_KEYWORDS]; the nearest word."""
    words = [*re.split(r"[-._ 0-9]+", path.name.lower()), *(part.lower() for part in reversed(path.parts[:-1]))]
    return next((KEYWORDS[word] for word in words if word in KEYWORDS), "")
