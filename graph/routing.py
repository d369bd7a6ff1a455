"""Who is next: pure functions of the state.

    baseline → research → data → draft → candidate → (improve → candidate)* → deliver → confirm → stop

The order of the rules is the strategy. Nothing here reads a clock, a file or a database: the router node takes stock
first, and these functions decide on what it wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.brain import Move
from graph.state import RunState
from shared_memory.goal import Goal
from shared_memory.records import EvalResult, Experiment, Part, Recipe

BASELINE = "baseline"

PRIOR_ITEMS = 4
"""Weight, in items, of the pull towards the baseline's score when candidates are ranked (`Metric.shrunken`)."""


@dataclass(frozen=True)
class Choice:
    move: Move
    subject: str = ""
    """The experiment that it is about."""
    halt: str = ""
    """Set where a cap of the goal cuts the search short: `over_budget` or `timed_out`."""
    why: str = ""


def next_move(state: RunState) -> Choice:
    """What to do next: the next step of the search while the run's means allow it, else the way out."""
    if state.get("halt"):
        return ending(state)
    choice = next_step_of_the_search(state)
    if choice is None:
        return ending(state)
    cut = cap_that_cuts(state, choice.move)
    if cut is not None:
        return replace(ending(state), halt=cut.halt, why=cut.why)
    return choice


def next_step_of_the_search(state: RunState) -> Choice | None:
    """The next step, caps aside; None where there is nothing left that is worth trying."""
    if not has_baseline(state):
        return Choice(Move.BASELINE)
    if not state.get("recipes"):
        return Choice(Move.RESEARCH)
    if not state.get("datasets"):
        return Choice(Move.DATA)
    experiments = experiments_of(state)
    for experiment in experiments.values():
        if experiment.status == "planned":
            return Choice(Move.DEBUG, experiment.id, why=f"{experiment.id} was planned, and has not been trained")
        if experiment.status == "trained":
            return Choice(Move.CANDIDATE, experiment.id)
    if not experiments:
        return Choice(Move.DRAFT)
    return Choice(Move.IMPROVE, incumbent(state)) if worth_improving(state) else None


def ending(state: RunState) -> Choice:
    """The way out: save the incumbent, measure once what was saved, stop."""
    best = incumbent(state)
    if best == BASELINE:
        return Choice(Move.STOP)
    if state.get("delivered") != best:
        return Choice(Move.DELIVER, best)
    may_measure = state.get("halt") not in ("cancelled", "failed") and not gave_up(state, Move.CONFIRM)
    if may_measure and means_left(state) and not confirmed(state, best):
        return Choice(Move.CONFIRM, best)
    return Choice(Move.STOP)


def cap_that_cuts(state: RunState, move: Move) -> Choice | None:
    """The cap that leaves no room for `move` beside the end, as the halt that it causes."""
    stock = state["stock"]
    if stock["seconds_left"] <= stock["seconds_kept"]:
        kept = f", of which {stock['seconds_kept'] / 60:.0f} min are kept back for saving the best model"
        return Choice(Move.STOP, halt="timed_out", why=f"{max(0, stock['seconds_left']) / 60:.0f} min are left{kept}")
    benchmarks = len(goal_of(state).benchmark)
    needed = {Move.DRAFT: 2, Move.IMPROVE: 2, Move.DEBUG: 2, Move.CANDIDATE: 1, Move.BASELINE: benchmarks, Move.DATA: 1}
    kept_jobs = 0 if move is Move.BASELINE else jobs_of_the_end(state)
    if stock["jobs_left"] < needed.get(move, 0) + kept_jobs:
        return Choice(
            Move.STOP, halt="over_budget", why=f"{stock['jobs_left']} jobs are left, too few for another experiment"
        )
    return None


def jobs_of_the_end(state: RunState) -> int:
    """Jobs kept back: one saves the champion, and one for each benchmark measures it on the report items."""
    return 1 + len(goal_of(state).benchmark)


def means_left(state: RunState) -> bool:
    """Whether the run may still start a job of the end."""
    return state["stock"]["jobs_left"] > 0 and state["stock"]["seconds_left"] > 0


def gave_up(state: RunState, move: Move) -> bool:
    """Whether the job of a move of the end has been tried, and did not succeed."""
    return move.value in state.get("given_up", [])


def worth_improving(state: RunState) -> bool:
    """Whether to grow the incumbent by a child: within the cap, short of the target, the last child having helped."""
    goal, experiments = goal_of(state), experiments_of(state)
    best = incumbent(state)
    if best == BASELINE or len(experiments) >= goal.limits.experiments:
        return False
    result = state["results"].get(f"{best}/{goal.primary.id}/{Part.SELECTION}")
    reached = goal.primary.target is not None and result is not None and result["score"] >= goal.primary.target
    return not reached and list(experiments)[-1] == best


def incumbent(state: RunState) -> str:
    """The candidate with the highest shrunken mean on the selection items; ties go to the older, which is cheaper.

    The baseline is a candidate too, so a model that is worse than the base is never delivered.
    """
    baseline = selection_result(state, BASELINE)
    if baseline is None:
        return BASELINE
    best, best_metric = BASELINE, baseline.metric
    for experiment in experiments_of(state).values():
        result = selection_result(state, experiment.id)
        if result is None or result.settings_digest != baseline.settings_digest:
            continue  # measured in another way: the two numbers cannot be compared
        metric = result.metric.shrunken(baseline.score, PRIOR_ITEMS)
        if metric.better_than(best_metric):
            best, best_metric = experiment.id, metric
    return best


def selection_result(state: RunState, experiment: str) -> EvalResult | None:
    plain = state.get("results", {}).get(f"{experiment}/{goal_of(state).primary.id}/{Part.SELECTION}")
    return EvalResult.model_validate(plain) if plain else None


def has_baseline(state: RunState) -> bool:
    """Whether the base model was scored on every benchmark."""
    results = state.get("results", {})
    return all(f"{BASELINE}/{entry.id}/{Part.SELECTION}" in results for entry in goal_of(state).benchmark)


def confirmed(state: RunState, experiment: str) -> bool:
    """Whether the one comparison on the report items has been made."""
    claims = state.get("claims", {})
    return all(claims.get(entry.id, {}).get("experiment") == experiment for entry in goal_of(state).benchmark)


def goal_of(state: RunState) -> Goal:
    return Goal.model_validate(state["goal"])


def experiments_of(state: RunState) -> dict[str, Experiment]:
    """Oldest first."""
    return {key: Experiment.model_validate(plain) for key, plain in state.get("experiments", {}).items()}


def recipes_of(state: RunState) -> dict[str, Recipe]:
    return {key: Recipe.model_validate(plain) for key, plain in state.get("recipes", {}).items()}
