"""Who is next: pure functions of the state.

    [hold out →] baseline → research → data → draft (a pilot, then others) → candidate
        → (debug | ablate | improve → candidate)* → deliver → confirm → stop

The order of the rules is the strategy. Nothing here reads a clock, a file or a database: the router node takes stock
first, and these functions decide on what it wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agents.brain import Move
from graph.standing import (
    BASELINE,
    PRIOR_ITEMS,
    best_experiment,
    confirmed,
    exhausted,
    experiments_of,
    goal_of,
    has_baseline,
    incumbent,
    is_exhausted,
    ranked,
    recipes_of,
    selection_result,
    target_reached,
)
from graph.state import RunState
from shared_memory.records import Branch, Experiment, Part, Verdict

__all__ = [
    "BASELINE", "PRIOR_ITEMS", "best_experiment", "confirmed", "exhausted", "experiments_of", "goal_of", "has_baseline",
    "incumbent", "is_exhausted", "ranked", "recipes_of", "selection_result", "target_reached",
]  # fmt: skip
"""Of graph.standing: what is known, and what is next, are asked of one module."""

DRAFTS = 3
"""Recipes that are tried from the base model before the best of them is worked on."""
PATIENCE = 3
"""Experiments in a row that may fail to beat the incumbent before the search has reached its plateau."""
ABLATIONS = 3
"""One experiment in so many may be an ablation; the others are there to get better."""
MENDINGS = 2
"""Times that a crashed experiment, its mended children included, is debugged."""
PUBLICATIONS = (Move.PUSH, Move.PUBLISH)
OF_THE_END = (Move.DELIVER, Move.CONFIRM, *PUBLICATIONS)
"""Moves that time, dollars and jobs are kept back for."""
JOBS_OF_AN_EXPERIMENT = 2
"""One trains it, one scores it."""


@dataclass(frozen=True)
class Choice:
    move: Move
    subject: str = ""
    """The experiment that it is about."""
    halt: str = ""
    """Set where a cap of the goal cuts the search short: `over_budget` or `timed_out`."""
    why: str = ""
    ends: bool = False
    """Whether it is the way out of a search that could go on."""


Step = Callable[[RunState], Choice | None]
"""A strategy: the next step, caps on jobs and time aside; None where nothing is left that is worth trying."""


def next_move(state: RunState, next_step: Step | None = None) -> Choice:
    """What to do next: the next step (of the search) while the run's means allow it, else the way out."""
    if is_over(state):
        return ending(state)
    choice = (next_step or next_step_of_the_search)(state)
    if choice is None:
        return ending(state)
    cut = cap_that_cuts(state, choice.move)
    if cut is not None:
        return replace(ending(state), halt=cut.halt, why=cut.why)
    return choice


def is_over(state: RunState) -> bool:
    """Whether nothing is searched any more: a cap or a person has ended it, or the claim is made.

    The claim is made once: after it, nothing may change what it was made about.
    """
    return bool(state.get("halt") or state.get("claims")) or is_exhausted(state, Move.STOP, "")


def next_step_of_the_search(state: RunState) -> Choice | None:
    """The next step, caps on jobs and time aside; None where there is nothing left that is worth trying."""
    if not goal_of(state).benchmark:
        return Choice(Move.HOLD_OUT)
    if not has_baseline(state):
        return Choice(Move.BASELINE)
    if not goal_of(state).limits.experiments:
        return None  # a goal that only wants to know the score
    if not state.get("recipes"):
        return Choice(Move.RESEARCH)
    if not state.get("datasets"):
        return Choice(Move.DATA)
    return next_step_of_the_tree(state)


def next_step_of_the_tree(state: RunState) -> Choice | None:
    """Finish what was begun; mend what crashed; try the recipes; then work on the best experiment."""
    experiments = experiments_of(state)
    for experiment in experiments.values():
        if experiment.status == "planned":
            return Choice(Move.RETRY, experiment.id, why=f"{experiment.id} was planned, and has not been trained")
    if unscored(state):
        return Choice(Move.CANDIDATE, unscored(state)[0])
    if target_reached(state):
        return None
    for experiment in experiments.values():
        if is_worth_mending(experiment, state):
            return Choice(Move.DEBUG, experiment.id, why=f"{experiment.id} crashed")
    if not experiments_left(state):
        return None
    if recipes_left(state, DRAFTS):
        return Choice(Move.DRAFT)
    best, subject = incumbent(state), subject_of_the_search(state)
    if best != BASELINE and is_time_to_ablate(state, best):
        return Choice(Move.ABLATE, best, why=f"what {best} owes to its parts tells what to change next")
    if not subject or misses_in_a_row(state) >= PATIENCE or is_exhausted(state, Move.IMPROVE, subject):
        return None
    return Choice(Move.IMPROVE, subject)


def recipes_left(state: RunState, most: int | None = None) -> bool:
    """Whether a recipe is left to draft from the base model; with `most`, of the first so many drafts."""
    drafts = sum(experiment.branch is Branch.DRAFT for experiment in experiments_of(state).values())
    wanted = len(state["recipes"]) if most is None else min(most, len(state["recipes"]))
    return drafts < wanted and not is_exhausted(state, Move.DRAFT, BASELINE)


def subject_of_the_search(state: RunState) -> str:
    """The experiment that is worked on: the incumbent, or the best one below the baseline; empty without any."""
    best = incumbent(state)
    return best if best != BASELINE else best_experiment(state)


def is_time_to_ablate(state: RunState, best: str) -> bool:
    """Whether to leave parts of the incumbent out before anything else about it is changed.

    Once a first improvement has been tried, or there is none; as long as its share of the experiments that the run can
    afford lasts, and there are parts that nobody has left out.
    """
    tried = any(experiment.branch is Branch.IMPROVE for experiment in experiments_of(state).values())
    begun = tried or is_exhausted(state, Move.IMPROVE, best)
    return begun and ablations_left(state) > 0 and not is_exhausted(state, Move.ABLATE, best)


def ablations_left(state: RunState) -> int:
    """Ablations that leave two thirds of all experiments that the run can afford to those that try to get better."""
    experiments, more = experiments_of(state).values(), affordable(state)
    done = sum(experiment.branch is Branch.ABLATE for experiment in experiments)
    return max(0, min(more, (len(experiments) + more) // ABLATIONS - done))


def affordable(state: RunState) -> int:
    """Experiments that the caps leave means for, were each to take what those before it took on average.

    Of dollars that is what the whole run has spent, which is more than the experiments alone.
    """
    stock, experiments = state["stock"], experiments_of(state)
    bounds = [experiments_left(state), (stock["jobs_left"] - jobs_of_the_end(state)) // JOBS_OF_AN_EXPERIMENT]
    scored = [name for name in experiments if selection_result(state, name) is not None]
    seconds = sum(_seconds_of(experiments[name], state) for name in scored)
    if seconds > 0:
        bounds.append(int((stock["seconds_left"] - stock["seconds_kept"]) * len(scored) / seconds))
    spent = goal_of(state).limits.usd_micro - stock["usd_left_micro"]
    if spent > 0 and experiments:
        bounds.append((stock["usd_left_micro"] - stock["usd_kept_micro"]) * len(experiments) // spent)
    return max(0, min(bounds))


def _seconds_of(experiment: Experiment, state: RunState) -> float:
    """That it took to train and to score."""
    result = selection_result(state, experiment.id)
    return float(experiment.train.get("seconds", 0.0)) + (result.seconds if result else 0.0)


def room(state: RunState) -> int:
    """How many experiments may be planned now: one as long as none has worked, then as many as run side by side.

    Never more than the caps on experiments and jobs leave, and of ablations no more than their share.
    """
    scored = any(experiment.status == "evaluated" for experiment in experiments_of(state).values())
    side_by_side = goal_of(state).run.parallel if scored else 1
    by_jobs = (state["stock"]["jobs_left"] - jobs_of_the_end(state)) // JOBS_OF_AN_EXPERIMENT
    share = [ablations_left(state)] if state.get("move") == Move.ABLATE else []
    return max(0, min(side_by_side, experiments_left(state), by_jobs, *share))


def experiments_left(state: RunState) -> int:
    return max(0, goal_of(state).limits.experiments - len(state.get("experiments", {})))


def unscored(state: RunState) -> list[str]:
    """Trained experiments without a score, but for those whose evaluation failed."""
    return [
        experiment.id
        for experiment in experiments_of(state).values()
        if experiment.status == "trained" and not is_exhausted(state, Move.CANDIDATE, experiment.id)
    ]


def unmeasured(state: RunState) -> tuple[str, ...]:
    """Benchmarks that the move is still to measure: what an earlier attempt measured is not measured again."""
    results, claims = state.get("results", {}), state.get("claims", {})
    move, names = state.get("move"), [entry.id for entry in goal_of(state).benchmark]
    if move == Move.BASELINE:
        return tuple(name for name in names if not any(f"{BASELINE}/{name}/{part}" in results for part in Part))
    if move == Move.CONFIRM:
        return tuple(name for name in names if claims.get(name, {}).get("experiment") != state.get("subject"))
    return ()


def is_worth_mending(experiment: Experiment, state: RunState) -> bool:
    """Whether a crash (no refusal) is to be debugged: not given up, not mended yet, and not too often."""
    ablated = experiment.branch is Branch.ABLATE  # what it was to tell, something else would not
    if experiment.verdict is not Verdict.CRASH or ablated or is_exhausted(state, Move.DEBUG, experiment.id):
        return False
    experiments = experiments_of(state)
    if any(child.branch is Branch.DEBUG and child.parent == experiment.id for child in experiments.values()):
        return False
    mendings, node = len(experiment.jobs) - 1, experiment
    while node.branch is Branch.DEBUG and node.parent in experiments:
        node = experiments[node.parent]
        mendings += len(node.jobs)
    return mendings < MENDINGS


def misses_in_a_row(state: RunState) -> int:
    """Experiments since the incumbent that were to become it, and did not; drafts and ablations were not."""
    names = list(experiments_of(state).values())
    best = incumbent(state)
    later = names[[e.id for e in names].index(best) + 1 :] if best != BASELINE else names
    return sum(1 for experiment in later if experiment.branch not in (Branch.DRAFT, Branch.ABLATE))


def ending(state: RunState) -> Choice:
    """The way out: save the incumbent, measure once what was saved, publish model and data, stop."""
    best = incumbent(state)
    if best != BASELINE and state.get("delivered") != best:
        return Choice(Move.DELIVER, best)
    may_run = state.get("halt") not in ("cancelled", "failed") and means_left(state)
    if best != BASELINE and may_run and not gave_up(state, Move.CONFIRM) and not confirmed(state, best):
        return Choice(Move.CONFIRM, best)
    if may_run and is_to_push(state):
        return Choice(Move.PUSH, best)
    if may_run and is_to_publish(state):
        return Choice(Move.PUBLISH)
    return Choice(Move.STOP)


def is_to_publish(state: RunState) -> bool:
    """Whether the goal wants the training data somewhere, and they are not there, nor was that tried or refused."""
    wanted = bool(goal_of(state).output.data_to and state.get("datasets")) and not state.get("published")
    return wanted and not gave_up(state, Move.PUBLISH) and not is_exhausted(state, Move.PUBLISH, "")


def is_to_push(state: RunState) -> bool:
    """The same for the delivered model."""
    wanted = bool(goal_of(state).output.push_to and state.get("delivered")) and not state.get("pushed")
    return wanted and not gave_up(state, Move.PUSH) and not is_exhausted(state, Move.PUSH, "")


def cap_that_cuts(state: RunState, move: Move) -> Choice | None:
    """The cap that leaves no room for `move` beside the end, as the halt that it causes."""
    stock = state["stock"]
    if stock["seconds_left"] <= stock["seconds_kept"]:
        kept = f", of which {stock['seconds_kept'] / 60:.0f} min are kept back for saving the best model"
        return Choice(Move.STOP, halt="timed_out", why=f"{max(0, stock['seconds_left']) / 60:.0f} min are left{kept}")
    if 0 < stock["usd_kept_micro"] >= stock["usd_left_micro"]:
        why = "the dollars that are left are kept back for saving and measuring the best model"
        return Choice(Move.STOP, halt="over_budget", why=why)
    benchmarks = len(goal_of(state).benchmark)
    kept_jobs = 0 if move is Move.BASELINE else jobs_of_the_end(state)
    if move in (Move.DRAFT, Move.IMPROVE, Move.ABLATE, Move.RETRY, Move.DEBUG):
        needed = JOBS_OF_AN_EXPERIMENT
    else:
        needed = {Move.CANDIDATE: len(unscored(state)), Move.BASELINE: benchmarks, Move.DATA: 1}.get(move, 0)
    if stock["jobs_left"] < needed + kept_jobs:
        return Choice(
            Move.STOP, halt="over_budget", why=f"{stock['jobs_left']} jobs are left, too few for another experiment"
        )
    return None


def jobs_of_the_end(state: RunState) -> int:
    """Jobs kept back: one saves the champion, one for each benchmark measures it, two may publish model and data."""
    goal = goal_of(state)
    return 1 + len(goal.benchmark) + bool(goal.output.push_to) + bool(goal.output.data_to)


def means_left(state: RunState) -> bool:
    """Whether the run may still start a job of the end."""
    return state["stock"]["jobs_left"] > 0 and state["stock"]["seconds_left"] > 0


def gave_up(state: RunState, move: Move) -> bool:
    """Whether the job of a move of the end has been tried, and did not succeed."""
    return move.value in state.get("given_up", [])
