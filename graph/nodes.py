"""The nodes before anything is done: intake, router, and the four that ask a role's brain for one typed proposal."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import cast

from langgraph.runtime import Runtime

from agents.base_model import fingerprint
from agents.brain import Brief, Move, Playbook, Role
from agents.evaluator import evaluation
from graph import routing, synthesis
from graph.briefing import brief_from, described
from graph.context import RULES, Context, Desk
from graph.intake import check_goal
from graph.state import Plain, RunState, update
from graph.variants import trainer_brief
from shared_memory.errors import BudgetSpent
from shared_memory.goal import Goal, parse_goal
from shared_memory.records import EvalResult

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


def intake(state: Goal, runtime: Runtime[Context], roles: Collection[Role] = tuple(Role)) -> Plain:
    """Check the goal against the world, as far as `roles` need it, and put it on record."""
    desk = Desk.of(runtime)
    goal = parse_goal(state.plain(), folder=Path.cwd())
    found = check_goal(goal, roles, desk.settings.brain)
    desk.register(goal)  # as it was asked for; what the run goes by has its data pinned
    goal = goal.model_copy(update={"data": goal.data.model_copy(update={"train": found.train})})
    noted = found.model.model_dump(mode="json", exclude={"config"})
    noted["fingerprint"] = fingerprint(Path(found.model.folder)) if found.model.folder else ""
    desk.journal.note("base_model", "base_model", noted)
    benchmarks = described(found.benchmarks, desk)
    return update(goal=goal, benchmarks=benchmarks, trains=list(found.trains), reopened=0, halt="", error="")


def router(state: RunState, runtime: Runtime[Context], next_step: routing.Step | None = None) -> Plain:
    """Take stock of the run's means, and let `routing` choose; `next_step` is another strategy than the search."""
    desk = Desk.of(runtime)
    goal = routing.goal_of(state)
    stock = desk.stock(goal, _seconds_kept(state))
    cancelled = stock["cancelled"]
    halt, error = (
        ("cancelled", "a person cancelled the run") if cancelled else (state.get("halt", ""), state.get("error", ""))
    )
    choice = routing.next_move(cast(RunState, {**state, "stock": stock, "halt": halt}), next_step)
    if choice.halt:
        halt, error = choice.halt, choice.why
        desk.emit("note", text=f"the search ends here: {error}")
    spend = desk.budget(goal).spent()
    hours = desk.runs.get(desk.run_id).active_seconds / 3600
    desk.emit("spent", usd=spend.usd_micro / 1e6, jobs=spend.jobs, hours=round(hours, 4))
    role = choice.move.role
    desk.emit(
        "move",
        move=choice.move.value,
        role=role.value if role else "",
        experiment=choice.subject,
        text=WHAT_A_MOVE_IS[choice.move].format(_subjects(choice, state)),
    )
    return update(stock=stock, move=choice.move, subject=choice.subject, halt=halt, error=error)


def _subjects(choice: routing.Choice, state: RunState) -> str:
    return ", ".join(routing.unscored(state)) if choice.move is Move.CANDIDATE else choice.subject


def _seconds_kept(state: RunState) -> float:
    """What saving the champion and its last evaluation will take, from what evaluations of this run took."""
    results = [EvalResult.model_validate(plain) for plain in state.get("results", {}).values()]
    per_item = evaluation.seconds_an_item(results) or 0.0
    items = sum(int(facts["report"]) for facts in state.get("benchmarks", {}).values())
    return 60 + 1.5 * per_item * items if results else 0.0


def researcher_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    return _propose(Role.RESEARCHER, state, runtime)


def data_engineer_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    """The same, from an audit of the goal's own rows; whether others are written is put on record."""
    desk = Desk.of(runtime)
    brief = synthesis.data_brief(state, desk)
    synthesis.note_decision(brief, desk)
    return _propose(Role.DATA_ENGINEER, state, runtime, brief)


def trainer_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    """The same, and what is known of the worth of the incumbent's parts."""
    return _propose(Role.TRAINER, state, runtime, trainer_brief(state))


def evaluator_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    return _propose(Role.EVALUATOR, state, runtime)


def _propose(role: Role, state: RunState, runtime: Runtime[Context], brief: Brief | None = None) -> Plain:
    """Ask the role's brain; a run that is on its way out asks the playbook, which costs nothing."""
    desk = Desk.of(runtime)
    brain = Playbook(RULES) if state.get("halt") else desk.brain(routing.goal_of(state), role)
    try:
        proposal = brain.propose(role, brief or brief_from(state))
    except BudgetSpent as spent:
        desk.emit("note", text=f"the search ends here: {spent}")
        return update(proposal={}, halt="over_budget", error=str(spent))
    desk.emit("proposal", role=role.value, by=brain.name, text=proposal.summary())
    return update(proposal=proposal.plain())
