"""What a person asks for: the goal file as one typed record."""

from __future__ import annotations

import difflib
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from shared_memory.errors import BadInput
from shared_memory.records import MICRO_USD, Record


class BenchmarkGoal(Record):
    """One `[[benchmark]]`."""

    name: str = ""
    """A benchmark of the registry."""
    path: str = ""
    """Or a file in GPQA's columns."""
    primary: bool = False
    target: float | None = Field(default=None, ge=0, le=1)
    """Score (fraction of 1) at which the search may stop."""
    max_tokens: int = Field(default=256, ge=8)
    """Tokens that an answer may take."""

    @model_validator(mode="after")
    def _has_a_name_or_a_path(self) -> Self:
        if bool(self.name) == bool(self.path):
            raise ValueError("a benchmark has either `name` or `path`")
        return self

    @property
    def id(self) -> str:
        """What scores are filed under: the name, or the file's name without its ending."""
        return self.name or Path(self.path).stem


class DataGoal(Record):
    """`[data]`."""

    train: tuple[str, ...] = ()
    """Files to train on."""
    generator: str = ""
    """A script that writes training rows: `SCRIPT --part train --rows N --seed S` prints JSONL."""
    synthesise: Literal["if_needed", "never", "always"] = "if_needed"


class Limits(Record):
    """`[limits]`: none of these is ever exceeded."""

    usd: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    hours: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Hours of driving; waiting for a person does not count."""
    llm_tokens: int = Field(default=2_000_000, ge=0)
    jobs: int = Field(default=20, ge=1)
    experiments: int = Field(default=12, ge=1)
    deadline: datetime | None = None
    """Wall-clock end, waiting included."""

    @property
    def usd_micro(self) -> int:
        return round(self.usd * MICRO_USD)


class Output(Record):
    """`[output]`."""

    push_to: str = ""
    private: bool = True
    save: tuple[Literal["adapter", "merged"], ...] = ("adapter", "merged")


class Rules(Record):
    """`[rules]`."""

    hosted_teacher: bool = True


class RunOptions(Record):
    """`[run]`."""

    on: Literal["local", "hf", "slurm"] = "local"
    approve: Literal["ask", "paid", "auto"] = "ask"
    seed: int = Field(default=0, ge=0)
    report_to: tuple[str, ...] = ("trackio",)


class Goal(Record):
    """A goal, as a person wrote it. Paths are absolute once it was read by `read_goal`."""

    text: str
    """What is wanted, in the person's words."""
    base_model: str = ""
    """A folder, or a Hub id."""
    revision: str = ""
    method: Literal["auto", "sft", "dpo", "grpo", "kto"] = "auto"
    data: DataGoal = Field(default_factory=DataGoal)
    benchmark: tuple[BenchmarkGoal, ...] = ()
    limits: Limits = Field(default_factory=Limits)
    output: Output = Field(default_factory=Output)
    rules: Rules = Field(default_factory=Rules)
    run: RunOptions = Field(default_factory=RunOptions)
    brain: dict[str, str] = Field(default_factory=dict)
    """Role (or `default`) → `playbook` or a LiteLLM model."""

    @model_validator(mode="after")
    def _benchmarks_are_told_apart(self) -> Self:
        ids = [entry.id for entry in self.benchmark]
        if len(set(ids)) != len(ids):
            raise ValueError(f"two benchmarks are both called {next(i for i in ids if ids.count(i) > 1)!r}")
        if sum(entry.primary for entry in self.benchmark) > 1:
            raise ValueError("only one benchmark can be primary")
        return self

    @property
    def primary(self) -> BenchmarkGoal:
        """The benchmark that steers the search: the one marked so, else the first."""
        return next((entry for entry in self.benchmark if entry.primary), self.benchmark[0])


def read_goal(path: Path) -> Goal:
    """Read a goal file; relative paths in it are taken from its folder.

    Raises BadInput naming the line (malformed TOML) or the key (unknown, wrong type), with the nearest known key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist; `postgrad init` writes a goal file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as UTF-8 text ({error}); check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}; mend that place and run again") from error
    return parse_goal(table, folder=path.parent, origin=str(path))


def parse_goal(table: dict[str, Any], folder: Path, origin: str = "the goal") -> Goal:
    """A Goal from plain data; see `read_goal`."""
    try:
        goal = Goal.model_validate(table)
    except ValidationError as error:
        raise BadInput(f"{origin}: {_explain(error)}") from error
    return _with_absolute_paths(goal, folder)


def _explain(error: ValidationError) -> str:
    """The first fault of a validation, in one line with a way out."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"]) or "goal"
    if fault["type"] != "extra_forbidden":
        return f"`{where}`: {fault['msg'].removeprefix('Value error, ')}; `postgrad init` writes a commented example"
    known = _known_keys(tuple(part for part in fault["loc"] if isinstance(part, str)))
    key = str(fault["loc"][-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"known keys here: {', '.join(known)}"
    return f"unknown key `{where}`; {hint}"


def _known_keys(loc: tuple[str, ...]) -> list[str]:
    sections: dict[str, type[Record]] = {
        "data": DataGoal, "benchmark": BenchmarkGoal, "limits": Limits,
        "output": Output, "rules": Rules, "run": RunOptions,
    }  # fmt: skip
    return sorted((sections.get(loc[0], Goal) if len(loc) > 1 else Goal).model_fields)


def _with_absolute_paths(goal: Goal, folder: Path) -> Goal:
    def absolute(value: str) -> str:
        """Files as absolute paths; what names no file on disk and does not look like one (a Hub id) stays."""
        if not value:
            return value
        path = folder / Path(value).expanduser()
        looks_local = value.startswith(("~", "/", "./", "../")) or path.exists() or bool(Path(value).suffix)
        return str(path.resolve()) if looks_local else value

    def file(value: str) -> str:
        return str((folder / Path(value).expanduser()).resolve()) if value else value

    model = goal.base_model
    if model.startswith(("~", "/", "./", "../")) or (model and (folder / model).is_dir()):
        model = file(model)
    return goal.model_copy(
        update={
            "base_model": model,
            "data": goal.data.model_copy(
                update={
                    "train": tuple(absolute(value) for value in goal.data.train),
                    "generator": file(goal.data.generator),
                }
            ),
            "benchmark": tuple(entry.model_copy(update={"path": file(entry.path)}) for entry in goal.benchmark),
        }
    )
