"""Learns what the parts of a run's champion are worth, as a run of its own: each part left out, all else the same.

    intake → router → (trainer | evaluator) → jobs → verdict → router … → finish

No brain is asked: what is varied was planned when the run was opened. One variant goes first, as a pilot; then others
run side by side, through the same door to compute as any job. What was learned is put on record in the first run, too,
after every score: a run that is cancelled, or reaches a cap, keeps it.
"""

from __future__ import annotations

import time
from typing import Any, cast

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from agents.brain import Move, Proposal, Role
from agents.trainer.proposal import AblationProposal
from graph import routing, variants
from graph.ablation_plan import LEARNED, named, read_champion, reference_of, selection_of
from graph.briefing import benchmarks_of, brief_from, described
from graph.build import whether_jobs, whether_judged
from graph.carry_out import evaluator_carry_out, trainer_carry_out
from graph.context import RULES, Context, Desk
from graph.jobs import build_jobs
from graph.pinned import BASELINE
from graph.routing import JOBS_OF_AN_EXPERIMENT, Choice
from graph.state import Plain, RunState, scores, update
from graph.verdict import verdict
from shared_memory.ablations import Variant
from shared_memory.goal import Goal
from shared_memory.records import DatasetRecord, EvalResult, Experiment, Verdict
from shared_memory.runs import Outcome, RunStatus

NOTE = "ablation"
"""Kind and id of the note that makes a run an ablation: `{of, champion, reference, variants}`, and what was learned."""
MOST_CRASHES = 2
"""Variants that may crash before any has a score: then they crash for a reason that they share."""


def intake(state: Goal, runtime: Runtime[Context]) -> Plain:
    """Check everything that the champion stands on, and take over what variants of it are compared with."""
    desk = Desk.of(runtime)
    note = desk.journal.notes(NOTE)[NOTE]
    original = read_champion(Desk(note["of"], desk.context))
    reference = reference_of(original)
    stored = desk.paths.store(original.desk.paths.stored(original.dataset.digest))
    if reference.script:
        desk.paths.store(original.desk.paths.stored(reference.script))
    dataset = original.dataset.model_copy(update={"path": str(desk.paths.stored(stored))})
    results = [cast(EvalResult, selection_of(original, name)) for name in (BASELINE, reference.id)]
    for record in (dataset, reference, *results):
        desk.journal.put(record)
    desk.journal.note("base_model", "base_model", original.base_model)
    held_out = original.desk.journal.notes("held_out")
    for name, content in held_out.items():
        desk.journal.note("held_out", name, content)
    return update(
        goal=state,
        benchmarks=described(benchmarks_of(state), desk),
        held_out=held_out["held_out"]["benchmarks"] if held_out else [],
        datasets={dataset.id: dataset},
        results=scores(results),
        experiments={reference.id: reference},
        reopened=0,
        halt="",
        error="",
    )


def router(state: RunState, runtime: Runtime[Context]) -> Plain:
    """File what was learned so far, and go on with the next step of the plan."""
    desk = Desk.of(runtime)
    note = desk.journal.notes(NOTE)[NOTE]
    goal = routing.goal_of(state)
    stock = desk.stock(goal, 0.0)
    halt, error = state.get("halt", ""), state.get("error", "")
    if stock["cancelled"]:
        halt, error = "cancelled", "a person cancelled the run"
    file_learned(state, note, desk)
    now = cast(RunState, {**state, "stock": stock, "halt": halt})
    choice = next_move(now, note["reference"], named(note))
    if choice.halt:
        halt, error = choice.halt, choice.why
        desk.emit("note", text=f"it ends here: {error}")
    now = cast(RunState, {**now, "move": choice.move.value, "subject": choice.subject})
    proposal = _proposal(now, note) if choice.move is not Move.STOP else None
    spend = desk.budget(goal).spent()
    hours = desk.runs.get(desk.run_id).active_seconds / 3600
    desk.emit("spent", usd=spend.usd_micro / 1e6, jobs=spend.jobs, hours=round(hours, 4))
    text = proposal.summary() if proposal else "write the report"
    role = choice.move.role.value if choice.move.role else ""
    desk.emit("move", move=choice.move.value, role=role, experiment=choice.subject, text=text)
    plain = proposal.plain() if proposal else {}
    return update(stock=stock, move=choice.move, subject=choice.subject, proposal=plain, halt=halt, error=error)


def next_move(state: RunState, reference: str, plan: dict[str, Variant]) -> Choice:
    """Finish what was begun, then the next variants; the end where none is left, a cap is reached, or pilots crash."""
    if state.get("halt"):
        return Choice(Move.STOP)
    experiments, stock = routing.experiments_of(state), state["stock"]
    planned = next((each.id for each in experiments.values() if each.status == "planned"), "")
    unscored = routing.unscored(state)
    crashed = [each for each in experiments.values() if each.verdict is Verdict.CRASH]
    if planned:
        choice, jobs = Choice(Move.RETRY, planned), JOBS_OF_AN_EXPERIMENT
    elif unscored:
        choice, jobs = Choice(Move.CANDIDATE, unscored[0]), len(unscored)
    elif len(crashed) >= MOST_CRASHES and not _scored(state, reference):
        return Choice(Move.STOP, halt="failed", why=f"{crashed[-1].id} crashed: {crashed[-1].error}")
    elif left_of(state, reference, plan):
        choice, jobs = Choice(Move.ABLATE, reference), JOBS_OF_AN_EXPERIMENT
    else:
        return Choice(Move.STOP)
    if stock["seconds_left"] <= 0:
        return Choice(Move.STOP, halt="timed_out", why="the time is used up")
    if stock["jobs_left"] < jobs:
        why = f"the cap on jobs leaves {stock['jobs_left']}, and {jobs} are needed"
        return Choice(Move.STOP, halt="over_budget", why=why)
    return choice


def left_of(state: RunState, reference: str, plan: dict[str, Variant]) -> dict[str, Variant]:
    """The part of the plan that has not been tried."""
    tried = routing.experiments_of(state)
    return {
        name: variant
        for name, variant in plan.items()
        if name not in tried and not routing.is_exhausted(state, Move.ABLATE, variants.given_up(reference, variant))
    }


def _scored(state: RunState, reference: str) -> list[str]:
    experiments = routing.experiments_of(state).values()
    return [each.id for each in experiments if each.status == "evaluated" and each.id != reference]


def _proposal(state: RunState, note: Plain) -> Proposal:
    """One variant as long as none has a score, then as many as may run side by side; the rest as the rules have it."""
    move, reference = Move(state["move"]), note["reference"]
    if move is not Move.ABLATE:
        return RULES[cast(Role, move.role)](brief_from(state))
    side_by_side = routing.goal_of(state).run.parallel if _scored(state, reference) else 1
    room = min(side_by_side, state["stock"]["jobs_left"] // JOBS_OF_AN_EXPERIMENT)
    chosen = [*left_of(state, reference, named(note)).items()][:room]
    return AblationProposal(
        reference=reference,
        variants=tuple(variant for _, variant in chosen),
        ids=tuple(name for name, _ in chosen),
        why=f"to learn what {note['champion']} owes to it",
    )


def file_learned(state: RunState, note: Plain, desk: Desk) -> None:
    """Put what is known by now on record, here and in the run whose champion it is about."""
    experiments = routing.experiments_of(state)
    datasets = {key: DatasetRecord.model_validate(plain) for key, plain in state.get("datasets", {}).items()}
    results = {key: EvalResult.model_validate(plain) for key, plain in state.get("results", {}).items()}
    table = variants.effects_of(note["reference"], routing.goal_of(state), experiments, datasets, results)
    effects, interactions = (
        tuple(effect.model_copy(update={"run": desk.run_id}) for effect in measured)
        for measured in (table.effects, table.interactions)
    )
    table = table.model_copy(update={"effects": effects, "interactions": interactions})
    known: dict[str, Any] = {**note, "table": table.plain(), "outcomes": _outcomes(note, experiments, desk)}
    desk.journal.note(NOTE, NOTE, known)
    if len(experiments) > 1:
        Desk(note["of"], desk.context).journal.note(LEARNED, desk.run_id, known)


def _outcomes(note: Plain, experiments: dict[str, Experiment], desk: Desk) -> list[Plain]:
    """What became of each variant of the plan."""
    skipped = desk.journal.notes(variants.SKIPPED)
    return [
        {
            "experiment": name,
            "part": variant.part,
            "kind": variant.kind,
            "change": variant.change,
            "status": experiments[name].status if name in experiments else "not tried",
            "error": experiments[name].error
            if name in experiments
            else skipped.get(variants.given_up(note["reference"], variant), ""),
        }
        for name, variant in named(note).items()
    ]


def finish(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Say how it ended."""
    desk = Desk.of(runtime)
    halt, error = state.get("halt", ""), state.get("error", "")
    status = RunStatus(halt) if halt else RunStatus.SUCCEEDED
    if not halt and not _scored(state, desk.journal.notes(NOTE)[NOTE]["reference"]):
        last = [each.error for each in routing.experiments_of(state).values() if each.error]
        status, error = RunStatus.FAILED, error or (last[-1] if last else "none of the variants could be made")
    desk.runs.update(desk.run_id, status=status, outcome=Outcome.NONE, error=error, ended=time.time())
    desk.emit("status", status=status.value, outcome=Outcome.NONE.value, text=error)
    return update(status=status.value, outcome=Outcome.NONE.value, error=error)


def who_is_next(state: RunState) -> str:
    role = Move(state["move"]).role
    return f"{role.value}_carry_out" if role else "finish"


builder = StateGraph(RunState, input_schema=Goal, context_schema=Context)
for node in (intake, router, trainer_carry_out, evaluator_carry_out, verdict, finish):
    builder.add_node(node.__name__, node)
builder.add_node("jobs", build_jobs())
builder.add_edge(START, "intake")
builder.add_edge("intake", "router")
builder.add_conditional_edges("router", who_is_next, ["trainer_carry_out", "evaluator_carry_out", "finish"])
for role in ("trainer", "evaluator"):
    builder.add_conditional_edges(
        f"{role}_carry_out", whether_jobs, {"jobs to run": "jobs", "nothing to run": "router"}
    )
builder.add_edge("jobs", "verdict")
builder.add_conditional_edges("verdict", whether_judged, {"judged": "router", "parked": "verdict"})
builder.add_edge("finish", END)
