"""Whether a goal can be worked on at all: everything that can be known before the first job."""

from __future__ import annotations

from pathlib import Path

from agents.base_model import BaseModel, find_base_model
from agents.data_engineer.formats import read_rows
from agents.evaluator.benchmarks import Benchmark, load_benchmark
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import Part

READ_AT_ONCE = 64 * 2**20
"""Bytes up to which training data is read before anything else, so that a bad file is known before a job has run."""
SMALLEST_PART = 20
"""Items below which a part of a benchmark says nothing: the 95 % interval of a share is wider than ± 20 points."""


def check_goal(goal: Goal) -> tuple[BaseModel, dict[str, Benchmark]]:
    """The base model and the benchmarks by id.

    Raises BadInput for whatever cannot be used, or is not part of this version, with the next move.
    """
    _refuse_what_is_not_there_yet(goal)
    benchmarks = {entry.id: load_benchmark(entry) for entry in goal.benchmark}
    for name, benchmark in benchmarks.items():
        for part in Part:
            n = sum(item.part == part for item in benchmark.items)
            if n < SMALLEST_PART:
                raise BadInput(
                    f"benchmark {name} has {n} {part.value} items; give it at least {SMALLEST_PART} of each part"
                )
    for source in goal.data.train:
        if not Path(source).is_file():
            raise BadInput(f"training data {source} is no file; check [data] train")
        if Path(source).stat().st_size <= READ_AT_ONCE:
            read_rows(Path(source))
    if goal.data.generator and not Path(goal.data.generator).is_file():
        raise BadInput(f"generator {goal.data.generator} does not exist; check [data] generator")
    if not goal.data.train and (not goal.data.generator or goal.data.synthesise == "never"):
        raise BadInput("the goal has no training data; give [data] train = [...], or a generator")
    return find_base_model(goal.base_model, goal.revision), benchmarks


def _refuse_what_is_not_there_yet(goal: Goal) -> None:
    if goal.method not in ("auto", "sft"):
        raise BadInput(f"method `{goal.method}` is not in this version; use method = 'sft' or 'auto'")
    if not goal.benchmark:
        raise BadInput("the goal has no [[benchmark]]; give one as `path`, a file in GPQA's columns")
    if goal.run.on != "local":
        raise BadInput(f"jobs on `{goal.run.on}` are not in this version; use [run] on = 'local'")
    if goal.output.push_to:
        raise BadInput(
            "pushing to the Hub is not in this version; leave [output] push_to empty: the model is in the run's folder"
        )
    brains = sorted({model for model in goal.brain.values() if model != "playbook"})
    if brains:
        raise BadInput(f"brain `{brains[0]}` is not in this version; use [brain] default = 'playbook'")
