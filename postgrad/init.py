"""Writes a commented goal file from flags, asking for what is missing where a person sits at the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from postgrad.api import benchmark_table
from postgrad.goal_file import write_goal_file
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
    """Write `path` and return it. What is given stays as it is written, relative to the file's folder.

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
    goal = Goal.model_validate({**known, "data": {"train": files}, "benchmark": entries})
    return write_goal_file(path, goal)
