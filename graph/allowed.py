"""Which moves the rules allow now: the playbook's own first, then others that a language model or a person may prefer.

Pure functions of the state, as in graph.routing. What a promise rests on is not up for choice: the baseline comes
first, what was begun is finished, a trained candidate is scored, a cap cuts, and the claim is made once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agents.brain import Move
from graph import routing
from graph.routing import BASELINE, Choice, Step
from graph.state import RunState


def allowed_moves(state: RunState, next_step: Step | None = None) -> tuple[Choice, ...]:
    """All moves that may be made now, the playbook's choice first; one alone where there is nothing to choose.

    Beyond the playbook's own strategy (so many drafts, so much patience, when to ablate) only the goal's caps bound the
    others. The way out is among them once an experiment has a verdict; it is marked as `ends`.
    """
    first = routing.next_move(state, next_step)
    if next_step is not None or not is_open(state) or first.halt:
        return (first,)
    others = [choice for choice in steps_of_the_tree(state) if routing.cap_that_cuts(state, choice.move) is None]
    if not others:
        return (first,)
    way_out = replace(routing.ending(state), ends=True)
    first = way_out if _same(first, way_out) else first
    has_verdict = any(experiment.verdict for experiment in routing.experiments_of(state).values())
    found = [first, *others, *([way_out] if has_verdict else [])]
    return tuple(choice for place, choice in enumerate(found) if not any(_same(choice, each) for each in found[:place]))


def is_open(state: RunState) -> bool:
    """Whether the search has come to where it may go on in more than one way: nothing is begun and not finished."""
    if routing.is_over(state) or not routing.goal_of(state).limits.experiments:
        return False
    if not (state.get("recipes") and state.get("datasets") and routing.goal_of(state).benchmark):
        return False
    if not routing.has_baseline(state) or routing.unscored(state) or routing.target_reached(state):
        return False
    return not any(experiment.status == "planned" for experiment in routing.experiments_of(state).values())


def steps_of_the_tree(state: RunState) -> Iterator[Choice]:
    """Every way to spend another experiment."""
    if not routing.experiments_left(state):
        return
    for experiment in routing.experiments_of(state).values():
        if routing.is_worth_mending(experiment, state):
            yield Choice(Move.DEBUG, experiment.id, why=f"{experiment.id} crashed")
    if routing.recipes_left(state):
        yield Choice(Move.DRAFT)
    subject, best = routing.subject_of_the_search(state), routing.incumbent(state)
    if subject and not routing.is_exhausted(state, Move.IMPROVE, subject):
        yield Choice(Move.IMPROVE, subject)
    if best != BASELINE and routing.ablations_left(state) and not routing.is_exhausted(state, Move.ABLATE, best):
        yield Choice(Move.ABLATE, best, why=f"what {best} owes to its parts tells what to change next")


def _same(one: Choice, other: Choice) -> bool:
    return (one.move, one.subject) == (other.move, other.subject)
