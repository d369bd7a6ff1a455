"""The text of a goal file: every key with a comment, what is known filled in, what is missing named at its head."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.run_paths import write_atomically


def write_goal_file(path: Path, goal: Goal, missing: Sequence[str] = ()) -> Path:
    """Write `goal` to `path`; never over a file that is there.

    Raises BadInput where the file exists, or its folder does not.
    """
    if path.exists():
        raise BadInput(f"{path} exists already; choose another name, or remove it first")
    if not path.parent.is_dir():
        raise BadInput(f"the folder {path.parent} does not exist; make it first")
    write_atomically(path, goal_file(goal, path.name, missing).encode())
    return path


def free_name(path: Path) -> Path:
    """`path`, or the first of `goal-2.toml`, `goal-3.toml` … that is not there yet."""
    number, free = 2, path
    while free.exists():
        free, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    return free


def goal_file(goal: Goal, name: str, missing: Sequence[str] = ()) -> str:
    """The file's text. Reading it gives `goal` again, but for keys that are only commented on."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # It makes TOML, not HTML; every value passes through `toml`.
    environment = Environment(autoescape=False, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701
    environment.loader, environment.undefined = PackageLoader("postgrad"), StrictUndefined
    environment.filters["toml"] = _toml
    brain = {"default": "playbook", **goal.brain.model_dump(mode="json", exclude_defaults=True)}
    table = {**goal.plain(), "brain": brain}
    example = BenchmarkGoal(path="items.jsonl", primary=True).plain()
    template = environment.get_template("goal.toml.j2")
    return template.render(goal=table, example=example, path=name, missing=list(missing))


def _toml(value: Any) -> str:
    """A value in TOML. Strings, lists, numbers and booleans are written as in JSON, but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
