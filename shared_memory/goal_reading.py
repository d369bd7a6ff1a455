"""A goal from a TOML file or plain data; what is wrong with it in one line."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal, BrainGoal, DataGoal, Goal, JudgeGoal, Limits, Output, Rules, RunOptions
from shared_memory.records import Record
from shared_memory.redaction import redact


def read_goal(path: Path) -> Goal:
    """Read a goal file; relative paths in it are taken from its folder.

    Raises BadInput naming the line (malformed TOML) or the key (unknown, wrong type), with the nearest known key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
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
    if fault["type"] == "tuple_type":
        return f"`{where}`: {_as_a_list(where, fault['input'])}; `postgrad init` writes a commented example"
    if fault["type"] != "extra_forbidden":
        return f"`{where}`: {fault['msg'].removeprefix('Value error, ')}; `postgrad init` writes a commented example"
    known = _known_keys(tuple(part for part in fault["loc"] if isinstance(part, str)))
    key = str(fault["loc"][-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"known keys here: {', '.join(known)}"
    return f"unknown key `{where}`; {hint}"


def _as_a_list(where: str, value: object) -> str:
    """How to write what was given as a single value."""
    if where == "benchmark":
        return "write [[benchmark]] with two brackets, once for each"
    if where == "data.weights":
        return "write a list of numbers, one for each entry of train, in its order: [2.0, 1.0]"
    if value in ("", "none"):
        return 'write a list: ["trackio"], or [] for none' if where == "run.report_to" else "write a list: [] for none"
    return f"write a list: {json.dumps([value], ensure_ascii=False, default=str)}"


def _known_keys(loc: tuple[str, ...]) -> list[str]:
    sections: dict[str, type[Record]] = {
        "data": DataGoal, "benchmark": BenchmarkGoal, "judge": JudgeGoal, "limits": Limits,
        "output": Output, "rules": Rules, "run": RunOptions, "brain": BrainGoal,
    }  # fmt: skip
    return sorted((sections.get(loc[0], Goal) if len(loc) > 1 else Goal).model_fields)


def _with_absolute_paths(goal: Goal, folder: Path) -> Goal:
    def absolute(value: str) -> str:
        """Files as absolute paths; what names no file on disk and does not look like one (a Hub id) stays."""
        if not value or value.startswith("hf://"):
            return value
        path = folder / Path(value).expanduser()
        ending = Path(value).suffix[1:].isalpha()  # `rows.jsonl`, but not `org/set-v2.5`
        looks_local = value.startswith(("~", "/", "./", "../")) or path.exists() or ending
        return str(path.resolve()) if looks_local else value

    def file(value: str) -> str:
        return str((folder / Path(value).expanduser()).resolve()) if value else value

    model = goal.base_model
    if model.startswith(("~", "/", "./", "../")) or (model and (folder / model).is_dir()):
        model = file(model)
    teacher = goal.distill_from
    if teacher.startswith(("~", "/", "./", "../")) or (teacher and (folder / teacher).is_dir()):
        teacher = file(teacher)
    published = {
        key: file(value)
        for key, value in (("data_to", goal.output.data_to), ("push_to", goal.output.push_to))
        if value.startswith(("~", "/", "./", "../"))
    }
    return goal.model_copy(
        update={
            "text": redact(goal.text),
            "base_model": model,
            "distill_from": teacher,
            "run": goal.run.model_copy(update={"script": file(goal.run.script)}),
            "data": goal.data.model_copy(
                update={
                    "train": tuple(absolute(value) for value in goal.data.train),
                    "generator": file(goal.data.generator),
                }
            ),
            "benchmark": tuple(
                entry.model_copy(update={"path": absolute(entry.path), "chat_template": file(entry.chat_template)})
                for entry in goal.benchmark
            ),
            "output": goal.output.model_copy(update=published),
        }
    )
