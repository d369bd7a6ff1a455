"""The router's choice among the moves that are allowed: the playbook's first, a person's wish, or a language model's.

What was chosen for another reason than the playbook's own is written down, with its reason. A step that is chosen again
after a crash comes out the same: what was asked for is settled under the step's key, and the model's answer is on disk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from agents import moves
from agents.brain import Brief, Move, Playbook, Role, choose_brain
from agents.workbench import Workbench
from graph import routing
from graph.allowed import allowed_moves
from graph.briefing import brief_from, in_full
from graph.context import Desk
from graph.heeding import Cancelled, heed_of
from graph.routing import Choice
from graph.state import RunState
from graph.steered import Narrowed, narrowed, step_key
from shared_memory.errors import BudgetSpent, TimeOver
from shared_memory.steering import STEERED, Steer, steers_of, wishes_of

MOVES = "move"
"""Kind of the journal's notes on moves that were chosen among several: step → move, experiment, by, why, among, at."""
WHAT_A_MOVE_IS = {
    Move.HOLD_OUT: "hold rows out to measure on",
    Move.BASELINE: "score the base model",
    Move.RESEARCH: "look for recipes",
    Move.DATA: "make training data",
    Move.DRAFT: "plan experiments from the recipes",
    Move.RETRY: "train {} again",
    Move.DEBUG: "find out what to do about {}",
    Move.IMPROVE: "change one thing about {}",
    Move.ABLATE: "find out what the parts of {} are worth",
    Move.CANDIDATE: "score {} on the selection items",
    Move.DELIVER: "save {} as the champion",
    Move.CONFIRM: "score the champion on the report items",
    Move.PUBLISH: "publish the training data",
    Move.PUSH: "publish {}'s model",
    Move.STOP: "write the report",
}
PERSON = "person"


@dataclass(frozen=True)
class Chosen:
    choice: Choice
    by: str = Playbook.name
    """`playbook`, a model, a model's stand-in, or `person`."""
    why: str = ""


def choose(state: RunState, desk: Desk, next_step: routing.Step | None = None) -> Chosen:
    """The next move. Raises what a language model that cannot be used raises, and GraphDrained where the run is parked.

    A cap that leaves no room for asking is the run's halt.
    """
    allowed = allowed_moves(state, next_step)
    if next_step is not None:
        return Chosen(allowed[0], why=allowed[0].why)
    key, steers = step_key(state), steers_of(desk.journal)
    notes = desk.journal.notes(STEERED)
    settled = [name for name, note in notes.items() if note["done"] and note["step"] != key]
    left = narrowed(allowed, state, steers, settled)
    try:
        chosen = _chosen(left, state, steers, desk)
    except (BudgetSpent, TimeOver) as spent:
        halt = "over_budget" if isinstance(spent, BudgetSpent) else "timed_out"
        return Chosen(replace(routing.ending(state), halt=halt, why=str(spent)))
    except Cancelled as cancelled:
        return Chosen(replace(routing.ending({**state, "halt": "cancelled"}), halt="cancelled", why=str(cancelled)))
    _tell_steers(left, steers, chosen, key, desk)
    if chosen.by != Playbook.name:
        among = [f"{each.move.value} {each.subject}".strip() for each in allowed]
        noted = {"move": chosen.choice.move.value, "experiment": chosen.choice.subject, "by": chosen.by}
        known = desk.journal.notes(MOVES).get(key, {"at": time.time()})
        desk.journal.note(MOVES, key, {**known, **noted, "why": chosen.why, "among": among})
    return chosen


def _chosen(left: Narrowed, state: RunState, steers: dict[str, Steer], desk: Desk) -> Chosen:
    first = left.choices[0]
    if len(left.choices) > 1 and desk.brain_name(routing.goal_of(state), Role.TRAINER) != Playbook.name:
        return _asked(left.choices, state, steers, desk)
    return Chosen(first, PERSON, left.because) if left.because else Chosen(first, why=first.why)


def _asked(choices: Sequence[Choice], state: RunState, steers: dict[str, Steer], desk: Desk) -> Chosen:
    """The choice of the trainer's language model; the playbook's where its answers are of no use."""
    goal = routing.goal_of(state)
    listed = [{"move": each.move.value, "experiment": each.subject, "means": meaning(each, state)} for each in choices]
    brief = brief_from(cast(RunState, {**state, "move": choices[0].move.value, "subject": ""}))
    brief = replace(brief, results=in_full(brief.results, desk.journal), wishes=wishes_of(steers.values()))

    def as_it_is(brief: Brief) -> moves.MoveProposal:
        return moves.MoveProposal()

    left = routing.experiments_left(state)
    name = desk.brain_name(goal, Role.TRAINER)
    model = desk.language_model(goal, Role.TRAINER, name, heed_of(desk, goal, state))
    brain = choose_brain(
        Workbench(model, desk.paths.tools, desk.settings.home / "library", tell=desk.emit),
        {Role.TRAINER: as_it_is},
        {Role.TRAINER: partial(moves.propose, allowed=listed, experiments_left=left)},
        stand_ins=desk.journal.notes("stand_in"),
        on_stand_in=desk.note_stand_in,
    )
    said = cast(moves.MoveProposal, brain.propose(Role.TRAINER, brief))
    return Chosen(choices[said.choice - 1], brain.name, said.why)


def meaning(choice: Choice, state: RunState) -> str:
    """A move in a few words."""
    subjects = ", ".join(routing.unscored(state)) if choice.move is Move.CANDIDATE else choice.subject
    words = WHAT_A_MOVE_IS[choice.move].format(subjects)
    return f"end the search: {words}" if choice.ends else words


def _tell_steers(left: Narrowed, steers: dict[str, Steer], chosen: Chosen, key: str, desk: Desk) -> None:
    """Say once what becomes of what a person asked for."""
    known = desk.journal.notes(STEERED)
    for name, outcome in left.outcomes.items():
        note = known.get(name, {"text": "", "done": False, "step": ""})
        if not outcome.text or (note["done"] and note["step"] != key) or note["text"] == outcome.text:
            continue
        told = {"step": key, "move": chosen.choice.move.value, "text": outcome.text, "done": outcome.done}
        desk.journal.note(STEERED, name, told)
        desk.emit("steer", words=steers[name].words, followed=outcome.followed, text=outcome.text)
