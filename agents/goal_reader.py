"""Turns a person's free text and flags into the table of a goal, with a language model that may not invent anything."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from agents.llm import LanguageModel
from agents.prompting import COMMON, conversation, fill
from shared_memory.goal import Limits
from shared_memory.records import Record

TASK = "Read the goal among the words from outside, and fill in the form."


class ReadBenchmark(Record):
    """A benchmark that the text asks for."""

    name: str | None = None
    """Of a public benchmark, as the text writes it."""
    path: str | None = None
    """Or the file that holds it, as the text writes it."""
    target: float | None = Field(default=None, ge=0, le=1)
    """Score to reach, a fraction of 1."""


class ReadGoal(Record):
    """What a text says about a goal. What it does not say stays null or empty.

    How jobs are approved is not here: consent is a flag or a line of a goal file, never a reading of a sentence.
    """

    base_model: str | None = None
    """The model to train: a Hub id or a folder, as the text writes it."""
    method: Literal["sft", "dpo", "grpo", "kto"] | None = None
    train: tuple[str, ...] = ()
    """Files or Hub data sets to train on, as the text writes them."""
    generator: str | None = None
    """A script that writes training rows, as the text writes it."""
    benchmarks: tuple[ReadBenchmark, ...] = ()
    usd: float | None = Field(default=None, ge=0)
    hours: float | None = Field(default=None, gt=0)
    llm_tokens: int | None = Field(default=None, ge=0)
    jobs: int | None = Field(default=None, ge=1)
    experiments: int | None = Field(default=None, ge=1)
    on: Literal["local", "hf", "slurm"] | None = None
    """Where jobs run."""
    push_to: str | None = None
    """Hub repository that the model is to be pushed to, as the text writes it."""


def read_goal_from_text(text: str, draft: dict[str, Any], model: LanguageModel) -> dict[str, Any]:
    """The goal's table: `draft` (plain data, from flags) and what the text adds to it; flags win.

    A name of a model, file, benchmark or repository is dropped unless it stands in the text, and so is a cap above the
    default. Raises what `LanguageModel.ask` raises.
    """
    messages = conversation(fill(COMMON / "goal.md"), TASK, {"flags": draft}, {"goal": text}, ReadGoal)
    return _merged(_table(model.ask(ReadGoal, messages), text), {**_without_blanks(draft), "text": text})


def _table(read: ReadGoal, text: str) -> dict[str, Any]:
    """What was read, as keys of a goal, without what the text does not bear out."""
    limits = {key: getattr(read, key) for key in ("usd", "hours", "llm_tokens", "jobs", "experiments")}
    standing = Limits()
    table: dict[str, Any] = {
        "base_model": _literal(read.base_model, text),
        "method": read.method,
        "data": {
            "train": [name for name in read.train if _literal(name, text)],
            "generator": _literal(read.generator, text),
        },
        "benchmark": [entry for entry in (_benchmark(each, text) for each in read.benchmarks) if entry],
        "limits": {
            key: value
            for key, value in limits.items()
            # A model may read a cap as lower than it is by default; to raise one, the number must be the person's.
            if value is not None and (value <= getattr(standing, key) or value in _numbers(text))
        },
        "output": {"push_to": _literal(read.push_to, text)},
        "run": {"on": read.on},
    }
    return _without_blanks(table)


def _benchmark(read: ReadBenchmark, text: str) -> dict[str, Any]:
    path, name = _literal(read.path, text), _literal(read.name, text)
    if not path and not name:
        return {}
    percent = round(100 * read.target, 6) if read.target is not None else None
    said = read.target in _numbers(text) or percent in _numbers(text)
    return _without_blanks({"path": path, "name": "" if path else name, "target": read.target if said else None})


def _literal(name: str | None, text: str) -> str:
    """The name if the text has it as a word of its own, else empty."""
    found = name and re.search(rf"(?<![\w./~-]){re.escape(name)}(?![\w/-]|\.\w)", text)
    return name if name and found else ""


def _numbers(text: str) -> set[float]:
    """The numbers that a text writes in digits."""
    return {float(found.replace(",", "")) for found in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)}


def _without_blanks(table: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_blanks(value) if isinstance(value, dict) else value for key, value in table.items()}
    return {key: value for key, value in kept.items() if value not in (None, "", [], {})}


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two tables as one: section by section, and what `over` has wins."""
    both = {
        key: _merged(under[key], value) if isinstance(value, dict) and isinstance(under.get(key), dict) else value
        for key, value in over.items()
    }
    return {**under, **both}
