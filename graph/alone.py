"""Each role as a graph of its own: the same nodes, gate and door to compute, and a strategy that ends with its part."""

from __future__ import annotations

from agents.brain import Move, Role
from graph.build import build
from graph.routing import BASELINE, Choice, experiments_left, experiments_of, goal_of, has_baseline, is_exhausted
from graph.state import RunState


def findings_and_recipes(state: RunState) -> Choice | None:
    return None if state.get("recipes") else Choice(Move.RESEARCH)


def a_data_set(state: RunState) -> Choice | None:
    return None if state.get("datasets") else Choice(Move.DATA)


def a_first_experiment(state: RunState) -> Choice | None:
    """The recipes, the data and one training job; an experiment that was planned and not trained goes first."""
    experiments = experiments_of(state)
    planned = next((experiment.id for experiment in experiments.values() if experiment.status == "planned"), "")
    if planned:
        return Choice(Move.RETRY, planned)
    if experiments or not experiments_left(state) or is_exhausted(state, Move.DRAFT, BASELINE):
        return None
    return findings_and_recipes(state) or a_data_set(state) or Choice(Move.DRAFT)


def a_baseline(state: RunState) -> Choice | None:
    """What there is to measure on, held out of the goal's rows where it names nothing, and the base model's scores."""
    if not goal_of(state).benchmark:
        return Choice(Move.HOLD_OUT)
    return None if has_baseline(state) else Choice(Move.BASELINE)


researcher = build([Role.RESEARCHER], findings_and_recipes).compile(name="researcher")
data_engineer = build([Role.DATA_ENGINEER], a_data_set).compile(name="data_engineer")
trainer = build([Role.RESEARCHER, Role.DATA_ENGINEER, Role.TRAINER], a_first_experiment).compile(name="trainer")
evaluator = build([Role.EVALUATOR], a_baseline).compile(name="evaluator")
