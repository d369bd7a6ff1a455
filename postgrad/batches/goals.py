"""Reads the goals of a batch, and gives each the run id that the same batch finds it by the next time."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.goal_reading import parse_goal, read_goal
from shared_memory.records import canonical_digest

Goals = str | Path | Iterable[Goal | str | Path]
"""A JSONL file with one goal a line, a folder of TOML files, or one of them; or goals and goal files."""
WHAT_TO_GIVE = "give a JSONL file with one goal a line, or a folder of .toml files"


@dataclass(frozen=True)
class Entry:
    """One goal of a batch, in its place."""

    place: int
    name: str
    """The file's name, with the line in a JSONL file (`goals.jsonl:3`); `goal 3` for the third of a list."""
    goal: Goal | None
    """None where it cannot be read."""
    error: str = ""
    """Why it cannot."""

    @property
    def content(self) -> dict[str, object]:
        """What makes it this goal, defaults left out: a newer version with one more of them knows it again."""
        return self.goal.model_dump(mode="json", exclude_defaults=True) if self.goal else {"unread": self.name}


def read_entries(goals: Goals) -> list[Entry]:
    """The goals in their order; one that cannot be read is an entry with its error.

    Raises BadInput where there is no goal at all.
    """
    entries = [_entry(place, name, read) for place, (name, read) in enumerate(_sources(goals))]
    if not entries:
        raise BadInput(f"the batch has no goals; {WHAT_TO_GIVE}")
    return entries


def batch_id(goals: Goals, entries: list[Entry], name: str) -> str:
    """What a batch is known by: its name, else where it is, else what all its goals are; with a word to read."""
    if isinstance(goals, str | Path):
        path = _absolute(goals)
        key, words = name or str(path), name or path.stem
    else:
        key, words = name or canonical_digest([entry.content for entry in entries]), name or "batch"
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower())[:20].strip("-") or "batch"
    return f"{slug}-{canonical_digest(key)[:6]}"


def run_ids(entries: list[Entry], prefix: str) -> list[str]:
    """A run id for each goal, from its content alone; goals that say the same are counted."""
    digests = [canonical_digest(entry.content) for entry in entries]
    seen: Counter[str] = Counter()
    ids = []
    for digest in digests:
        seen[digest] += 1
        ids.append(f"{prefix}{canonical_digest([digest, seen[digest]])[:10]}")
    return ids


def _entry(place: int, name: str, read: Callable[[], Goal]) -> Entry:
    """The boundary of one goal: whatever is wrong with it stays with it."""
    try:
        goal = read()
        canonical_digest(goal.plain())  # half a surrogate pair can be written in JSON, and in no file or database
    except BadInput as error:
        return Entry(place, name, None, str(error))
    except (ValueError, OSError, RecursionError) as error:
        return Entry(place, name, None, f"{name} cannot be used ({error}); mend it and run the batch again")
    return Entry(place, name, goal)


def _sources(goals: Goals) -> Iterator[tuple[str, Callable[[], Goal]]]:
    """Name and reader of every goal."""
    if not isinstance(goals, str | Path):
        for number, goal in enumerate(goals, 1):
            if isinstance(goal, Goal):
                yield f"goal {number}", partial(parse_goal, goal.plain(), Path.cwd())
            else:
                yield Path(goal).name, partial(read_goal, _absolute(goal))
        return
    path = _absolute(goals)
    if path.is_dir() or path.suffix == ".toml":
        for file in sorted(path.glob("[!.]*.toml")) if path.is_dir() else [path]:
            yield file.name, partial(read_goal, file)
        return
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); {WHAT_TO_GIVE}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path.name}:{number}"
            yield where, partial(_goal_of_line, line, path.parent, where)


def _goal_of_line(line: bytes, folder: Path, where: str) -> Goal:
    try:
        table = json.loads(line)
    except ValueError as error:
        fault = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise BadInput(f"{where} is not valid JSON ({fault}); write each goal as one JSON object on a line") from error
    if not isinstance(table, dict):
        raise BadInput(f"{where} is no JSON object; write each goal as one, with the keys of goal.toml")
    return parse_goal(table, folder, where)


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().resolve()
