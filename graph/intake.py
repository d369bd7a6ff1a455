"""Whether a goal can be worked on at all: everything that can be known before the first job."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from agents.base_model import BaseModel, find_base_model
from agents.brain import Role
from agents.data_engineer.formats import Row, read_sources, trains
from agents.evaluator.benchmarks import SMALLEST_PART, Benchmark, load_benchmark
from agents.evaluator.hold_out import FEWEST_ROWS
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import Part

READ_AT_ONCE = 64 * 2**20
"""Bytes up to which training data is read before anything else, so that a bad file is known before a job has run."""


@dataclass(frozen=True)
class Checked:
    """What a goal stands on, once it is known that it can be worked on."""

    model: BaseModel
    benchmarks: dict[str, Benchmark]
    """By id."""
    trains: tuple[str, ...]
    """Methods that the goal's rows can train; empty where there are none yet, or too many to look at now."""


def check_goal(goal: Goal, roles: Collection[Role] = tuple(Role)) -> Checked:
    """Raises BadInput for whatever `roles` cannot use, or is not part of this version, with the next move."""
    _refuse_what_is_not_there_yet(goal)
    if goal.limits.deadline is not None and goal.limits.deadline.timestamp() <= time.time():
        raise BadInput(f"limits.deadline ({goal.limits.deadline.isoformat()}) has passed; set a later one")
    benchmarks = {entry.id: load_benchmark(entry) for entry in goal.benchmark}
    if goal.limits.experiments:
        for benchmark in benchmarks.values():
            _require_two_parts(benchmark)
    rows = _rows_of(goal)
    if goal.data.generator and not Path(goal.data.generator).is_file():
        raise BadInput(f"generator {goal.data.generator} does not exist; check [data] generator")
    measures = Role.EVALUATOR in roles
    if measures and not goal.benchmark and not goal.data.train:
        raise BadInput("the goal has neither a [[benchmark]] nor training data to hold rows out of; give one of them")
    if measures and not goal.benchmark and rows is not None and len(rows) < FEWEST_ROWS:
        raise BadInput(
            f"{len(rows)} rows are too few to hold some out to measure on ({FEWEST_ROWS} are needed); "
            "give a [[benchmark]], or more rows"
        )
    needs_data = Role.DATA_ENGINEER in roles and goal.limits.experiments and not goal.data.train
    if needs_data and (not goal.data.generator or goal.data.synthesise == "never"):
        raise BadInput("the goal has no training data; give [data] train = [...], or a generator")
    methods = trains(rows or ())
    if rows and goal.method not in ("auto", *methods):
        raise BadInput(
            f"method `{goal.method}` needs rows that these data have not (they train {' or '.join(methods)}); "
            "bring rows with prompt, chosen and rejected, or change the method"
        )
    return Checked(find_base_model(goal.base_model, goal.revision), benchmarks, methods)


def _require_two_parts(benchmark: Benchmark) -> None:
    for part in Part:
        n = sum(item.part == part for item in benchmark.items)
        if n < SMALLEST_PART:
            raise BadInput(
                f"benchmark {benchmark.name} has {n} {part.value} items; give it at least {SMALLEST_PART} of each part"
            )


def _rows_of(goal: Goal) -> list[Row] | None:
    """The goal's training rows; None where they are too many to read before anything else."""
    for source in goal.data.train:
        if not Path(source).is_file():
            raise BadInput(f"training data {source} is no file; check [data] train")
        if goal.data.train.count(source) > 1:
            raise BadInput(f"training data {source} is named twice; name it once in [data] train")
    if sum(Path(source).stat().st_size for source in goal.data.train) > READ_AT_ONCE:
        return None
    return read_sources(goal.data.train)


def _refuse_what_is_not_there_yet(goal: Goal) -> None:
    if goal.method not in ("auto", "sft", "dpo"):
        raise BadInput(f"method `{goal.method}` is not in this version; use method = 'sft', 'dpo' or 'auto'")
    if goal.run.on != "local":
        raise BadInput(f"jobs on `{goal.run.on}` are not in this version; use [run] on = 'local'")
    if goal.output.push_to:
        raise BadInput(
            "pushing to the Hub is not in this version; leave [output] push_to empty: the model is in the run's folder"
        )
