"""The nodes before anything is done: intake, router, and the four that ask a role's brain for one typed proposal."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import cast

from langgraph.runtime import Runtime

from agents.base_model import fingerprint
from agents.brain import Brief, Move, Playbook, Role
from agents.evaluator import scored
from graph import actions, choosing, learning, routing, steered, synthesis
from graph.briefing import brief_from, described, in_full
from graph.context import RULES, Context, Desk
from graph.heeding import Cancelled, heed_of
from graph.intake import check_goal
from graph.state import Plain, RunState, update
from graph.variants import trainer_brief
from shared_memory.errors import BudgetSpent, TimeOver
from shared_memory.goal import Goal
from shared_memory.goal_reading import parse_goal
from shared_memory.records import EvalResult
from shared_memory.steering import steers_of, wishes_of


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
    learning.recall(goal, found.trains, desk)
    return update(goal=goal, benchmarks=benchmarks, trains=list(found.trains), reopened=0, halt="", error="")


def router(state: RunState, runtime: Runtime[Context], next_step: routing.Step | None = None) -> Plain:
    """Take stock of the run's means, and choose among what `routing` allows; `next_step` is another strategy."""
    desk = Desk.of(runtime)
    goal = routing.goal_of(state)
    stock = desk.stock(goal, _seconds_kept(state))
    halt, error = state.get("halt", ""), state.get("error", "")
    if stock["cancelled"]:
        halt, error = "cancelled", "a person cancelled the run"
    now = cast(RunState, {**state, "stock": stock, "halt": halt})
    chosen = choosing.choose(now, desk, next_step)
    choice = chosen.choice
    if choice.halt:
        halt, error = choice.halt, choice.why
        desk.emit("note", text=f"the search ends here: {error}")
    desk.tell_spent(goal)
    role = choice.move.role
    desk.emit(
        "move",
        move=choice.move.value,
        role=role.value if role else "",
        experiment=choice.subject,
        by=chosen.by,
        why=chosen.why,
        text=choosing.meaning(choice, now),
    )
    changes = update(stock=stock, move=choice.move, subject=choice.subject, halt=halt, error=error)
    if choice.ends and chosen.by != Playbook.name:  # for good: the playbook would end it again by itself
        changes |= update(exhausted=[*state.get("exhausted", []), routing.exhausted(Move.STOP, "")])
    return changes


def _seconds_kept(state: RunState) -> float:
    """What saving the champion and its last evaluation will take, from what evaluations of this run took."""
    results = [EvalResult.model_validate(plain) for plain in state.get("results", {}).values()]
    per_item = scored.seconds_an_item(results) or 0.0
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
    """The same, what is known of the worth of the incumbent's parts, and the recipes as a person would have them."""
    brief = trainer_brief(state)
    recipes = steered.ordered(brief.recipes, steers_of(Desk.of(runtime).journal))
    return _propose(Role.TRAINER, state, runtime, replace(brief, recipes=recipes))


def evaluator_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    return _propose(Role.EVALUATOR, state, runtime)


def _propose(role: Role, state: RunState, runtime: Runtime[Context], brief: Brief | None = None) -> Plain:
    """Ask the role's brain; a run that is on its way out asks the playbook, which costs nothing."""
    desk = Desk.of(runtime)
    goal = routing.goal_of(state)
    brain = Playbook(RULES) if state.get("halt") else desk.brain(goal, role, heed_of(desk, goal, state))
    wishes = wishes_of(steers_of(desk.journal).values())
    brief = brief or brief_from(state)
    shown = replace(
        brief, results=in_full(brief.results, desk.journal), wishes=wishes, done=actions.told(desk),
        lessons=learning.recalled(desk),
    )  # fmt: skip
    try:
        proposal = brain.propose(role, shown)
    except Cancelled:
        return update(proposal={})  # the router sees to it
    except (BudgetSpent, TimeOver) as spent:
        desk.emit("note", text=f"the search ends here: {spent}")
        halt = "over_budget" if isinstance(spent, BudgetSpent) else "timed_out"
        return update(proposal={}, halt=halt, error=str(spent))
    desk.emit("proposal", role=role.value, by=brain.name, text=proposal.summary())
    return update(proposal=proposal.plain())
