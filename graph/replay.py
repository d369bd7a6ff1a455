"""Does a champion again from its pinned records, as a run of its own, and says whether it agrees.

    intake → router → jobs → verdict → router … → finish

The trainings of its lineage, the merge and the evaluation on the report items go through the same door to compute as
any other job. What a job made before is replaced by what its successor makes; everything else is as it was pinned.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from agents.brain import Move
from agents.evaluator import evaluation
from agents.evaluator.statistics import summarise
from agents.jobs.hardware import installed_packages
from agents.trainer import training
from graph import build, routing
from graph.briefing import benchmarks_of, described
from graph.carry_out import hand_over
from graph.context import Context, Desk
from graph.jobs import build_jobs
from graph.pinned import Original, Pinned, read_original, verify
from graph.state import Plain, RunState, update
from graph.verdict import finish
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.records import REJECTED, EvalResult, Job, JobSpec, JobState, Part, Purpose, Verdict

NOTE = "reproduction"
"""Kind and id of the note that makes a run a reproduction: `{"of": run id}`, and at its end what came of it."""
RESOLUTION = 0.001
"""0.1 points, or 0.001 nats a token: a smaller difference shows in no figure of a report."""
RULE = (
    "it agrees where the paired difference of the two scores, item by item, lies within 2 of its standard errors, "
    f"or below {RESOLUTION:g}"
)
UNTRAINED: Plain = {
    "status": "planned", "verdict": None, "model": "", "train": {}, "jobs": (), "error": "", "diagnosis": None
}  # fmt: skip
MOVES = {Purpose.TRAINING: Move.RETRY, Purpose.MERGE: Move.DELIVER, Purpose.EVALUATION: Move.CONFIRM}


def builder_of(journal: Journal) -> StateGraph[RunState, Context, Goal, RunState]:
    """The graph that drives a run: this one for a reproduction, else the team's."""
    return builder if journal.notes(NOTE) else build.builder


def original_of(desk: Desk) -> Original:
    """What the desk's run does again."""
    return read_original(Desk(desk.journal.notes(NOTE)[NOTE]["of"], desk.context))


def intake(state: Goal, runtime: Runtime[Context]) -> Plain:
    """Check everything that the champion stands on, and take it over into this run."""
    desk = Desk.of(runtime)
    original = original_of(desk)
    verify(original)
    for pinned in original.path:
        for digest in pinned.spec.files.values():
            desk.paths.store(original.desk.paths.stored(digest))
    lineage = {experiment.id: experiment.model_copy(update=UNTRAINED) for experiment in original.lineage}
    for record in (original.dataset, original.baseline, *lineage.values()):
        desk.journal.put(record)
    desk.journal.note("base_model", "base_model", original.base_model)
    for name, note in original.desk.journal.notes("held_out").items():
        desk.journal.note("held_out", name, note)
    return update(
        goal=state,
        benchmarks=described(benchmarks_of(state), desk),
        datasets={original.dataset.id: original.dataset},
        results={original.baseline.id: original.baseline},
        experiments=lineage,
        reopened=0,
        halt="",
        error="",
    )


def router(state: RunState, runtime: Runtime[Context]) -> Plain:
    """The first job of the path that this run has not done yet, with the folders of those that it has."""
    desk = Desk.of(runtime)
    stock = desk.stock(routing.goal_of(state), 0.0)
    halt, error = state.get("halt", ""), state.get("error", "")
    if stock["cancelled"]:
        halt, error = "cancelled", "a person cancelled the run"
    original = original_of(desk)
    step = None if halt else _next_step(original, desk)
    move = MOVES[step.spec.purpose] if step else Move.STOP
    text = f"as in {original.desk.run_id}: {step.spec.title}" if step else "write the report"
    role = move.role.value if move.role else ""
    desk.emit("move", move=move.value, role=role, experiment=original.champion.id, text=text)
    pending = [_again(step, original, desk)] if step else []
    return update(stock=stock, move=move, pending=pending, finished=[], halt=halt, error=error)


def is_same(one: Job, other: Job) -> bool:
    """Whether two jobs are the same step of a path."""
    return one.purpose is other.purpose and one.experiment == other.experiment


def _successor(step: Pinned, desk: Desk) -> Job | None:
    """The job by which the desk's run has done a step again."""
    jobs = desk.journal.all(Job).values()
    return next((job for job in jobs if is_same(job, step.job) and job.state is JobState.SUCCEEDED), None)


def _next_step(original: Original, desk: Desk) -> Pinned | None:
    return next((step for step in original.path if _successor(step, desk) is None), None)


def _again(step: Pinned, original: Original, desk: Desk) -> JobSpec:
    """The pinned spec over this run's own folders: of its jobs, and of the model that it hands over."""
    moves: dict[str | Path, str | Path] = {
        original.desk.paths.model: desk.paths.model,
        original.base_model["folder"]: original.model.folder,
    }
    moves |= {done.job.folder: job.folder for done in original.path if (job := _successor(done, desk))}
    folders = {key: _moved(step.spec.config.get(key), moves) for key in ("model", "adapter")}
    return step.spec.model_copy(update={"config": step.spec.config | folders})


def _moved(folder: Any, moves: Mapping[str | Path, str | Path]) -> Any:
    """A folder's place under this run; what lies in none of the moved ones stays."""
    for old, new in moves.items():
        if isinstance(folder, str) and Path(folder).is_relative_to(old):
            return os.path.normpath(Path(new) / Path(folder).relative_to(old))
    return folder


def verdict(state: RunState, runtime: Runtime[Context]) -> Plain:
    """File what a job made; after the evaluation, compare."""
    desk = Desk.of(runtime)
    (job,) = (Job.model_validate(plain) for plain in state["finished"])
    original = original_of(desk)
    cleared: Plain = {"pending": [], "finished": []}
    if job.state is not JobState.SUCCEEDED:
        halt = "cancelled" if job.error.startswith(REJECTED) else "failed"
        error = f"the {job.purpose} of {job.experiment} was not done: {job.error}"
        return cleared if state.get("halt") else {**cleared, "halt": halt, "error": error}
    pinned = next(step for step in original.path if is_same(step.job, job))
    if job.spec_digest != _again(pinned, original, desk).digest:
        error = (
            f"the {job.purpose} of {job.experiment} was edited at the gate, so it is not what the champion stands on"
        )
        return {**cleared, "halt": "failed", "error": error}
    if job.purpose is Purpose.EVALUATION:
        return {**_compare(job, original, state, desk), **cleared}
    changes: Plain = {}
    experiments = routing.experiments_of(state)
    if job.purpose is Purpose.TRAINING:
        experiment = training.finish_training(experiments[job.experiment], job)
        desk.journal.put(experiment)
        experiments[experiment.id] = experiment
        changes = update(experiments={experiment.id: experiment})
    following = _next_step(original, desk)
    if following is not None and following.spec.purpose is Purpose.EVALUATION:
        merge = job if job.purpose is Purpose.MERGE else None
        champion = experiments[original.champion.id]
        changes |= hand_over(champion, merge, desk, routing.goal_of(state), original.model)
    return {**changes, **cleared}


def _compare(job: Job, original: Original, state: RunState, desk: Desk) -> Plain:
    """Score the champion again, claim again, and say whether the two scores agree."""
    goal = routing.goal_of(state)
    benchmark = benchmarks_of(goal)[goal.primary.id]
    spec = JobSpec.model_validate(state["pending"][0])
    again = next(r for r in evaluation.collect(job, spec, benchmark, goal) if r.part is Part.REPORT)
    claim = evaluation.claim(original.baseline, again, benchmark)
    experiments = routing.experiments_of(state)
    evaluated = {"status": "evaluated", "verdict": Verdict.KEEP}
    champion = experiments[original.champion.id].model_copy(update=evaluated)
    for record in (again, claim, champion):
        desk.journal.put(record)
    before, after = (evaluation.item_scores(result, benchmark) for result in (original.result, again))
    outcome = agreement(before, after)
    losses = {
        name: {"original": experiment.train.get("train_loss"), "again": experiments[name].train.get("train_loss")}
        for name, experiment in ((experiment.id, experiment) for experiment in original.lineage)
    }
    then, now = original.path[-1].packages, installed_packages()
    facts = {
        "of": original.desk.run_id,
        "benchmark": benchmark.name,
        "rule": RULE,
        "original": _score(original.result),
        "again": _score(again),
        "training_loss": losses,
        "packages": {name: [then.get(name, ""), now[name]] for name in now if then.get(name) != now[name]},
    }
    desk.journal.note(NOTE, NOTE, {**facts, **outcome})
    original.desk.journal.note("reproduced", desk.run_id, {key: outcome[key] for key in ("verdict", "reason")})
    desk.emit(
        "note", text=f"the champion of {original.desk.run_id}, done again, {outcome['verdict']}: {outcome['reason']}"
    )
    return update(results={again.id: again}, claims={benchmark.name: claim}, experiments={champion.id: champion})


def agreement(before: dict[str, float], after: dict[str, float]) -> Plain:
    """Whether two scores of the same items agree by RULE: `{verdict, reason, delta, stderr, items_equal}`."""
    differences = [after[item] - before[item] for item in sorted(before)]
    delta, stderr, n = summarise(differences)
    equal = sum(difference == 0 for difference in differences)
    agrees = abs(delta) <= max(2 * stderr, RESOLUTION)
    apart = f", which differ by {delta:+.4f} on average (2 standard errors: {2 * stderr:.4f})" if equal < n else ""
    return {
        "verdict": "agrees" if agrees else "differs",
        "reason": f"{equal} of {n} items score as before{apart}",
        "delta": delta,
        "stderr": stderr,
        "items_equal": equal / n,
    }


def _score(result: EvalResult) -> Plain:
    return result.model_dump(mode="json", include={"score", "stderr", "n", "part", "unit", "higher_is_better"})


builder = StateGraph(RunState, input_schema=Goal, context_schema=Context)
for node in (intake, router, verdict, finish):
    builder.add_node(node.__name__, node)
builder.add_node("jobs", build_jobs())
builder.add_edge(START, "intake")
builder.add_edge("intake", "router")
builder.add_conditional_edges("router", lambda state: "jobs" if state["pending"] else "finish", ["jobs", "finish"])
builder.add_edge("jobs", "verdict")
builder.add_edge("verdict", "router")
builder.add_edge("finish", END)
