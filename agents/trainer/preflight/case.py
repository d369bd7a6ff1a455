"""What the checks look at: a job with its files read, the facts, and what the smoke run saw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agents.trainer.preflight.environment import Environment, environment_of
from agents.trainer.preflight.report import Facts
from agents.trainer.preflight.script import Constant, Script
from shared_memory.records import JobSpec, Purpose

SAMPLED = 2000
"""Rows that are looked at, spread evenly over the data: a share of 1 % is then known to ± 0.4 points."""
PIECES = 500
"""Places in a large file that rows are read at."""
SMALL = 8 * 2**20
"""Bytes up to which a file is read as a whole."""


@dataclass
class Case:
    """A job under examination. What is read or asked is so once, when the first check needs it."""

    spec: JobSpec
    files: Mapping[str, Path]
    facts: Facts
    seen: dict[str, Any] | None = None
    """What the smoke run saw (`scripts/probe.py`); None without one."""

    @cached_property
    def script(self) -> Script:
        path = self.files.get(self.spec.script)
        if path is None or not path.is_file():
            return Script(self.spec.script, "")
        return Script(self.spec.script, path.read_text(encoding="utf-8", errors="replace"))

    @cached_property
    def scripts(self) -> tuple[Script, ...]:
        """The script, then the other Python files of the job, which it may import."""
        others = {name: path for name, path in self.files.items() if name.endswith(".py") and name != self.spec.script}
        read = (Script(name, path.read_text(encoding="utf-8", errors="replace")) for name, path in others.items())
        return (self.script, *read)

    @property
    def strings(self) -> Iterator[tuple[Script, Constant]]:
        return ((script, constant) for script in self.scripts for constant in script.strings)

    @property
    def config(self) -> dict[str, Any]:
        return self.spec.config

    @property
    def trains(self) -> bool:
        return self.spec.purpose is Purpose.TRAINING

    @property
    def method(self) -> str:
        return str(self.config.get("method", "sft" if self.trains else ""))

    @cached_property
    def environment(self) -> Environment:
        """A local job runs in this very Python."""
        return environment_of(self.script, here=self.spec.runner == "local", cache_folder=self.facts.cache_folder)

    @cached_property
    def model_folder(self) -> Path | None:
        """The base's files, where they are on this machine."""
        for name in (self.facts.model_folder, self.config.get("model")):
            if isinstance(name, str) and name and Path(name).is_absolute() and (Path(name) / "config.json").is_file():
                return Path(name)
        return None

    def of_model(self, file: str) -> dict[str, Any] | None:
        """A JSON file of the base; None where there is none. Raises ValueError where it is no JSON object."""
        path = self.model_folder / file if self.model_folder else None
        if path is None or not path.is_file():
            return None
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"{path} does not hold a JSON object")
        return value

    @cached_property
    def model_config(self) -> dict[str, Any]:
        """config.json of the base, of its language part where it has several; empty where it is not at hand."""
        try:
            config = self.of_model("config.json") or {}
        except ValueError:
            return {}
        return config | config["text_config"] if isinstance(config.get("text_config"), dict) else config

    @property
    def data_name(self) -> str:
        name = self.config.get("data", "data.jsonl")
        return name if isinstance(name, str) else ""

    @cached_property
    def data_file(self) -> Path | None:
        """The training data, where they are one file that is at hand."""
        if path := self.files.get(self.data_name):
            return path
        path = Path(self.data_name)
        return path if path.is_absolute() and path.is_file() else None

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """SAMPLED rows at most, in order, the first ones among them. Raises ValueError for a line that is no row."""
        if self.data_file is None:
            return []
        return read_rows(self.data_file)

    @property
    def without_rows(self) -> str:
        """Why there are no rows to look at; empty where there are."""
        if not self.trains:
            return "no training"
        return "" if self.data_file is not None else "the rows are not on this machine"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file as `Case.rows` gives them."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= SMALL:
            lines = [line for line in stream.read().split(b"\n") if line.strip()]
            step = max(1, len(lines) // SAMPLED)
            taken = [(number, line) for number, line in enumerate(lines, 1) if number % step == 0 or number <= 64]
            return [_row(line, f"row {number}") for number, line in taken[: SAMPLED + 64]]
        rows = [_row(stream.readline(), f"row {number}") for number in range(1, 65)]
        for piece in range(1, PIECES):
            stream.seek(size * piece // PIECES)
            stream.readline()  # the rest of the row that it fell into
            for line in (stream.readline() for _ in range(SAMPLED // PIECES)):
                if line.strip():
                    rows.append(_row(line, f"a row near byte {stream.tell()}"))
    return rows


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where} is no JSON object")
    return row


def turns(value: Any) -> list[str]:
    """The texts of a column: of a list of messages, or a plain text."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for turn in value if isinstance(turn, dict) and isinstance(text := turn.get("content"), str)]
    return []
