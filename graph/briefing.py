"""What the nodes look up before they act: the goal's model and benchmarks, and the brief that a role is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from agents.base_model import BaseModel, find_base_model, served_model
from agents.brain import Brief, Move
from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark
from graph import routing
from graph.context import Desk
from graph.state import LEFT_TO_THE_JOURNAL, ById, RunState
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.records import DatasetRecord, EvalResult, Finding, Part, Record

R = TypeVar("R", bound=Record)


def brief_from(state: RunState) -> Brief:
    """What a role is shown."""
    return Brief(
        goal=routing.goal_of(state),
        move=Move(state["move"]),
        experiment=state.get("subject", ""),
        trains=tuple(state.get("trains", [])),
        room=routing.room(state),
        unscored=tuple(routing.unscored(state)),
        unmeasured=routing.unmeasured(state),
        incumbent=routing.incumbent(state),
        parameters=model_of(routing.goal_of(state)).parameters,
        findings=_records(state.get("findings", {}), Finding),
        recipes=routing.recipes_of(state),
        datasets=_records(state.get("datasets", {}), DatasetRecord),
        experiments=routing.experiments_of(state),
        results=_records(state.get("results", {}), EvalResult),
        generated=tuple(state.get("generated", [])),
    )


def in_full(results: Mapping[str, EvalResult], journal: Journal) -> dict[str, EvalResult]:
    """The results of a state, with what it leaves to the journal: as their own job filed it, whatever a fork filed."""

    def whole(key: str, result: EvalResult) -> EvalResult:
        filed = [each for each in journal.history(EvalResult, key) if each.job == result.job]
        left = {name: getattr((filed or [result])[-1], name) for name in LEFT_TO_THE_JOURNAL}
        return result.model_copy(update={name: value for name, value in left.items() if not getattr(result, name)})

    return {key: whole(key, result) for key, result in results.items()}


def _records(channel: ById, kind: type[R]) -> dict[str, R]:
    return {key: kind.model_validate(plain) for key, plain in channel.items()}


def described(benchmarks: dict[str, Benchmark], desk: Desk) -> ById:
    """Benchmark → digest and sizes, told as well."""
    facts: ById = {}
    for name, benchmark in benchmarks.items():
        n = {part.value: sum(item.part == part for item in benchmark.items) for part in Part}
        facts[name] = {"digest": benchmark.digest, **n}
        sizes = f"{n['selection']} items select, {n['report']} only report" if benchmark.items else "LightEval's"
        desk.emit("note", text=f"benchmark {name}: {sizes}")
    return facts


def model_of(goal: Goal) -> BaseModel:
    """The model that the goal is about. Raises BadInput where it cannot be had."""
    if goal.run.on == "api":
        return served_model(goal.base_model)
    return find_base_model(goal.base_model, goal.revision)


def benchmarks_of(goal: Goal) -> dict[str, Benchmark]:
    return {entry.id: load_benchmark(entry) for entry in goal.benchmark}
