"""How a run stands, read from its state: the goal, what was measured, and which experiment is the best so far."""

from __future__ import annotations

from agents.brain import Move
from graph.state import RunState
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.metric import Metric
from shared_memory.records import EvalResult, Experiment, Part, Recipe, recipe_of

BASELINE = "baseline"

PRIOR_ITEMS = 64
"""Weight, in items, of the pull towards the baseline's score when candidates are ranked (`Metric.shrunken`).

discordance / variance of the true effects: .25 / .06². Candidates on the same items keep their order whatever it is.
Where some have fewer items, 64 gains nearly as much as the best weight for effects from 3 to 20 points
(benchmarks/claims.py)."""


def target_reached(state: RunState) -> bool:
    """Whether the incumbent is as good on the selection items as the goal's target asks for."""
    target = goal_of(state).primary.target
    result = selection_result(state, incumbent(state))
    if target is None or result is None:
        return False
    return result.score >= target if result.higher_is_better else result.score <= target


def incumbent(state: RunState) -> str:
    """The candidate with the highest shrunken mean on the selection items; ties go to the older, which is cheaper.

    The baseline is a candidate too, so a model that is worse than the base is never delivered.
    """
    baseline = selection_result(state, BASELINE)
    best = best_experiment(state)
    if baseline is None or not best:
        return BASELINE
    return best if ranked(state, best).better_than(baseline.metric) else BASELINE


def best_experiment(state: RunState) -> str:
    """The same among the experiments alone; empty where none has a score that can be compared."""
    baseline = selection_result(state, BASELINE)
    best = ""
    for experiment in experiments_of(state).values():
        result = selection_result(state, experiment.id)
        if result is None or baseline is None or result.settings_digest != baseline.settings_digest:
            continue  # measured in another way: the two numbers cannot be compared
        if not best or ranked(state, experiment.id).better_than(ranked(state, best)):
            best = experiment.id
    return best


def ranked(state: RunState, experiment: str) -> Metric:
    """An experiment's score on the selection items, pulled towards the baseline's: what candidates are ranked by."""
    result, baseline = selection_result(state, experiment), selection_result(state, BASELINE)
    if result is None or baseline is None:
        raise ValueError(f"{experiment} and the baseline have no scores to compare")
    return result.metric.shrunken(baseline.score, PRIOR_ITEMS)


def selection_result(state: RunState, experiment: str) -> EvalResult | None:
    goal = goal_of(state)
    name = goal.primary.id if goal.benchmark else ""
    plain = state.get("results", {}).get(f"{experiment}/{name}/{Part.SELECTION}")
    return EvalResult.model_validate(plain) if plain else None


def has_baseline(state: RunState) -> bool:
    """Whether the base model was scored on every benchmark, be it on items of one part alone."""
    results = state.get("results", {})
    return all(any(f"{BASELINE}/{entry.id}/{part}" in results for part in Part) for entry in goal_of(state).benchmark)


def confirmed(state: RunState, experiment: str) -> bool:
    """Whether the one comparison on the report items has been made."""
    claims = state.get("claims", {})
    return all(claims.get(entry.id, {}).get("experiment") == experiment for entry in goal_of(state).benchmark)


def goal_of(state: RunState) -> Goal:
    """The goal, measured on the rows that were held out where it names no benchmark itself."""
    goal = Goal.model_validate(state["goal"])
    held_out = tuple(BenchmarkGoal.model_validate(plain) for plain in state.get("held_out", []))
    return goal.model_copy(update={"benchmark": held_out}) if held_out else goal


def experiments_of(state: RunState) -> dict[str, Experiment]:
    """Oldest first."""
    return {key: Experiment.model_validate(plain) for key, plain in state.get("experiments", {}).items()}


def recipes_of(state: RunState) -> dict[str, Recipe]:
    return {key: recipe_of(plain) for key, plain in state.get("recipes", {}).items()}


def exhausted(move: Move, subject: str) -> str:
    """How a move that had nothing to propose is remembered."""
    return f"{move.value}:{subject}"


def is_exhausted(state: RunState, move: Move, subject: str) -> bool:
    return exhausted(move, subject) in state.get("exhausted", [])
