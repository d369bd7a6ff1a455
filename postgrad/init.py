"""Writes a commented goal file from flags, asking for what is missing where a person sits at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from postgrad.api import benchmark_table
from postgrad.goal_file import write_goal_file
from postgrad.options import say
from shared_memory.errors import BadInput
from shared_memory.goal import Goal

QUESTIONS = {
    "text": "What should the model become good at",
    "base_model": "Base model (Hub id or folder)",
    "data": "Training data (a file of questions and answers, chats or preferences)",
}
BENCHMARK = "Benchmark file (empty: hold rows of the data out and measure on those)"


def init(
    path: Path, *, text: str | None, base_model: str | None, data: list[str] | None, benchmark: str | None
) -> Path:
    """Write `path` and return it. What is there is named so that the goal file, read from its own folder, finds it;
    a note on stderr tells what is not there.

    Raises BadInput where the file exists, or where something is missing and nobody can be asked.
    """
    if path.exists():
        raise BadInput(f"{path} exists already; choose another name, or remove it first")
    known: dict[str, Any] = {"text": text, "base_model": base_model, "data": data}
    missing = [key for key, value in known.items() if not value]
    if missing and not sys.stdin.isatty():
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in missing)
        raise BadInput(f"nobody is there to ask; give {flags} as well")
    for key in missing:
        known[key] = str(typer.prompt(QUESTIONS[key], err=True))
    if missing and benchmark is None:
        benchmark = str(typer.prompt(BENCHMARK, default="", show_default=False, err=True))
    files = [known["data"]] if isinstance(known["data"], str) else known["data"]
    entries = [{**benchmark_table(benchmark), "primary": True}] if benchmark else []
    for entry in entries:
        if "path" in entry:
            entry["path"] = _seen_from(path.parent, entry["path"])
    known["base_model"] = _seen_from(path.parent, known["base_model"], _is_a_folder)
    train = [_seen_from(path.parent, file) for file in files]
    goal = Goal.model_validate({**known, "data": {"train": train}, "benchmark": entries})
    return write_goal_file(path, goal)


def _seen_from(folder: Path, name: str, is_local: Callable[[str], bool] = lambda name: bool(Path(name).suffix)) -> str:
    """A file or folder as the goal file in `folder` has to name it: relative where it is below, else absolute.

    What is nowhere stays as it is, with a note unless it may be a Hub id.
    """
    here, there = ((base / Path(name).expanduser()).resolve() for base in (Path(), folder))
    if here.exists():
        root = folder.resolve()
        return str(here.relative_to(root) if here.is_relative_to(root) else here)
    if not there.exists() and (is_local(name) or name.startswith(("~", "/", "./", "../"))):
        say(f"note: {name} does not exist; the goal file expects it at {there}")
    return name


def _is_a_folder(name: str) -> bool:
    """Whether a model's name cannot be a Hub id, which has at most one slash."""
    return name.count("/") > 1
