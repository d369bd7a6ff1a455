"""Writes a commented goal file from flags, asking for what is missing where a person sits at the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from shared_memory.errors import BadInput
from shared_memory.run_paths import write_atomically

QUESTIONS = {
    "text": "What should the model become good at",
    "base_model": "Base model (Hub id or folder)",
    "benchmark": "Benchmark (a file in GPQA's columns)",
    "data": "Training data (a file)",
}


def write_goal_file(
    path: Path, *, text: str | None, base_model: str | None, data: list[str] | None, benchmark: str | None
) -> Path:
    """Write `path`; never over a file that is there.

    Raises BadInput where the file exists, where its folder does not, or where something is missing and nobody can be
    asked.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if path.exists():
        raise BadInput(f"{path} exists already; choose another name, or remove it first")
    if not path.parent.is_dir():
        raise BadInput(f"the folder {path.parent} does not exist; make it first")
    given = {"text": text, "base_model": base_model, "benchmark": benchmark, "data": ", ".join(data or []) or None}
    answers = _complete(given)
    files = data if data else [answers["data"]]
    # The template makes TOML, not HTML; every value passes through JSON quoting, which TOML strings share.
    environment = Environment(loader=PackageLoader("postgrad"), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in answers.items() if key != "data"}
    rendered = environment.get_template("goal.toml.j2").render(
        path=path.name, data=json.dumps(files, ensure_ascii=False), **quoted
    )
    write_atomically(path, (rendered + "\n").encode())
    return path


def _complete(given: dict[str, str | None]) -> dict[str, str]:
    missing = [key for key, value in given.items() if not value]
    if missing and not sys.stdin.isatty():
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in missing)
        raise BadInput(f"nobody is there to ask; give {flags} as well")
    return {key: value or str(typer.prompt(QUESTIONS[key], err=True)) for key, value in given.items()}
