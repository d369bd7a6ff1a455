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
from agents.evaluator import scored
from agents.evaluator.statistics import summarise
from agents.jobs.hardware import installed_packages
from agents.trainer import training
from graph import ablation, build, routing
from graph.briefing import benchmarks_of, described
from graph.carry_out import hand_over
from graph.context import Context, Desk
from graph.jobs import build_jobs
from graph.pinned import Original, read_original, verify
from graph.state import Plain, RunState, update
from graph.verdict import finish, scores_of
from graph.watch import Interrupted
from shared_memory.errors import PostgradError
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.records import REJECTED, EvalResult, Experiment, Job, JobSpec, JobState, Part, Purpose, Verdict

NOTE = "reproduction"
"""Kind and id of the note that makes a run a reproduction: `{"of": run id}`, and at its end what came of it."""
RESOLUTION = 0.001
"""0.1 points, or 0.001 nats a token: a smaller difference shows in no figure of a report."""
RULE = (
    "it agrees where the paired difference of the two scores, item by item, lies within 2 of its standard errors, "
    f"or below {RESOLUTION:g}"
)
CANNOT = "cannot"
"""Verdict of a run that has done another job, or lost the record of one: it stays, until the champion is begun anew."""
UNTRAINED: Plain = {
    "status": "planned", "verdict": None, "model": "", "train": {}, "jobs": (), "error": "", "diagnosis": None
}  # fmt: skip
MOVES = {Purpose.TRAINING: Move.RETRY, Purpose.MERGE: Move.DELIVER, Purpose.EVALUATION: Move.CONFIRM}


def builder_of(journal: Journal) -> StateGraph[RunState, Context, Goal, RunState]:
    """The graph that drives a run: this one for a reproduction, another for an ablation, else the team's."""
    if journal.notes(ablation.NOTE):
        return ablation.builder
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
    """File what the path's jobs have made so far, and ask for its next one."""
    desk = Desk.of(runtime)
    stock = desk.stock(routing.goal_of(state), 0.0)
    told = desk.journal.notes(NOTE)[NOTE]
    halt, error = state.get("halt", ""), state.get("error", "")
    if stock["cancelled"]:
        halt, error = "cancelled", "a person cancelled the run"
    if told.get("verdict") == CANNOT:
        halt, error = "failed", told["reason"]
    changes: Plain = {}
    pending: list[JobSpec] = []
    try:
        changes, following = _gone_on(state, desk)
        pending = [] if halt or "verdict" in told else [following]
    except PostgradError as fault:
        halt, error = (halt, error) if halt else ("failed", str(fault))
    move = MOVES[pending[0].purpose] if pending else Move.STOP
    text = f"as in {told['of']}: {pending[0].title}" if pending else "write the report"
    role = move.role.value if move.role else ""
    desk.emit("move", move=move.value, role=role, experiment=pending[0].experiment if pending else "", text=text)
    return {**changes, **update(stock=stock, move=move, pending=pending, finished=[], halt=halt, error=error)}


def _gone_on(state: RunState, desk: Desk) -> tuple[Plain, JobSpec]:
    """What the jobs that were done change, and the path's next job; before the evaluation the model is handed over.

    Raises PostgradError where a record of the original is gone, or there is no model to hand over.
    """
    original = original_of(desk)
    done, following = _done_again(original, desk)
    experiments = routing.experiments_of(state) | _filed(done, state, desk)
    champion = experiments[original.champion.id]
    changes = update(experiments=experiments)
    if following.purpose is Purpose.EVALUATION and state.get("delivered") != champion.id:
        merge = next((job for job in done if job.purpose is Purpose.MERGE), None)
        changes |= hand_over(champion, merge, desk, routing.goal_of(state), original.model)
    return changes, following


def _done_again(original: Original, desk: Desk) -> tuple[list[Job], JobSpec]:
    """The jobs by which the desk's run has done the first steps of the path, and the spec of the next, or last, one.

    A spec is the pinned one over this run's own folders: of its jobs, and of the model that it hands over. The ledger
    says what was done, by the spec's digest: a job that was edited at the gate is another one.
    """
    moves: dict[str | Path, str | Path] = {
        original.desk.paths.model: desk.paths.model,
        original.base_model["folder"]: original.model.folder,
    }
    done: list[Job] = []
    for step in original.path:
        folders = {key: _moved(step.spec.config.get(key), moves) for key in ("model", "adapter")}
        anew = {"resume_from": None} if "resume_from" in step.spec.config else {}
        following = step.spec.model_copy(update={"config": step.spec.config | folders | anew})
        job = _done(following, desk)
        if job is None:
            break
        done.append(job)
        moves[step.job.folder] = job.folder
    return done, following


def _done(spec: JobSpec, desk: Desk) -> Job | None:
    """The job that has done it: itself, or what a recovery put in its place."""
    pinned = desk.journal.notes("pinned")
    for action in desk.ledger.actions():
        if action.job is None or action.job.state is not JobState.SUCCEEDED or action.key not in pinned:
            continue
        known = JobSpec.model_validate(pinned[action.key]["spec"])
        if known.digest == spec.digest or (not spec.custom and known.scope == spec.scope):
            return action.job
    return None


def _filed(done: list[Job], state: RunState, desk: Desk) -> dict[str, Experiment]:
    """The experiments that a job has trained and that do not say so yet, now with their models."""
    experiments = routing.experiments_of(state)
    trained = {
        job.experiment: training.finish_training(experiments[job.experiment], job)
        for job in done
        if job.purpose is Purpose.TRAINING and job.key not in experiments[job.experiment].jobs
    }
    for experiment in trained.values():
        desk.journal.put(experiment)
    return trained


def _moved(folder: Any, moves: Mapping[str | Path, str | Path]) -> Any:
    """A folder's place under this run; what lies in none of the moved ones stays."""
    for old, new in moves.items():
        if isinstance(folder, str) and Path(folder).is_relative_to(old):
            return os.path.normpath(Path(new) / Path(folder).relative_to(old))
    return folder


def verdict(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Halt where a job is not the path's next step done; after the evaluation, compare."""
    desk = Desk.of(runtime)
    (job,) = (Job.model_validate(plain) for plain in state["finished"])
    original = original_of(desk)
    cleared: Plain = {"pending": [], "finished": []}
    if job.state is not JobState.SUCCEEDED:
        halt = "cancelled" if job.error.startswith(REJECTED) else "failed"
        error = f"the {job.purpose} of {job.experiment} was not done: {job.error}"
        return cleared if state.get("halt") else {**cleared, "halt": halt, "error": error}
    done, following = _done_again(original, desk)
    if job.key not in [one.key for one in done]:
        same_step = (job.purpose, job.experiment) == (following.purpose, following.experiment)
        edited = same_step and job.spec_digest != following.digest
        fault = "was edited at the gate, so it is not what the champion stands on" if edited else "left no record"
        of = original.desk.run_id
        reason = f"the {job.purpose} of {job.experiment} {fault}; `postgrad reproduce {of}` begins anew"
        desk.journal.note(NOTE, NOTE, {"of": of, "verdict": CANNOT, "reason": reason})
    elif job.purpose is Purpose.EVALUATION:
        try:
            return {**_compare(job, original, state, desk), **cleared}
        except Interrupted as interrupted:  # the router asks for this job again, which is done, and so comes back here
            return {**cleared, **update(**interrupted.means)}
    return cleared


def _compare(job: Job, original: Original, state: RunState, desk: Desk) -> Plain:
    """Score the champion again, claim again, and say whether the two scores agree."""
    goal = routing.goal_of(state)
    benchmark = benchmarks_of(goal)[goal.primary.id]
    spec = JobSpec.model_validate(state["pending"][0])
    again = next(r for r in scores_of(job, spec, benchmark, goal, state, desk) if r.part is Part.REPORT)
    claim = scored.claim(original.baseline, again, benchmark)
    experiments = routing.experiments_of(state)
    evaluated = {"status": "evaluated", "verdict": Verdict.KEEP}
    champion = experiments[original.champion.id].model_copy(update=evaluated)
    for record in (again, claim, champion):
        desk.journal.put(record)
    before, after = (scored.item_scores(result, benchmark) for result in (original.result, again))
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
