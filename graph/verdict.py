"""What came out of the jobs: scores, verdicts, and at the end what the run has come to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from langgraph.runtime import Runtime

from agents.brain import Move
from agents.evaluator import scored
from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.trainer import training
from agents.trainer.model_card import write_card
from graph import certificate, learning, publications, routing, synthesis
from graph.actions import file_outcome
from graph.briefing import benchmarks_of, model_of
from graph.carry_out import hand_over
from graph.context import Context, Desk
from graph.recover import DIAGNOSED
from graph.state import BY_ID, Plain, RunState, scores, update
from graph.watch import Interrupted, heed
from shared_memory.errors import BudgetSpent, ContextExhausted, PostgradError, Unavailable
from shared_memory.goal import Goal
from shared_memory.records import (
    REJECTED,
    ComparisonResult,
    Diagnosis,
    EvalResult,
    Experiment,
    Job,
    JobSpec,
    JobState,
    Part,
    Purpose,
    Verdict,
)
from shared_memory.runs import Outcome, RunStatus


def verdict(state: RunState, runtime: Runtime[Context]) -> Plain:
    """File every job's outcome, and judge the experiment that it belongs to.

    Where the run is parked before that is done, its jobs stay pending, and this node is the next one again.
    """
    desk = Desk.of(runtime)
    specs = {spec.digest: spec for spec in (JobSpec.model_validate(plain) for plain in state["pending"])}
    changes: Plain = {}
    for plain in state["finished"]:
        job = Job.model_validate(plain)
        spec = specs.get(job.spec_digest)
        if job.purpose is Purpose.ACTION:
            file_outcome(job, spec, desk)
            continue
        failed = job.state is not JobState.SUCCEEDED or spec is None
        after = with_changes(state, changes)
        outcome = _after_failure(job, after, desk) if failed else _after_success(job, cast(JobSpec, spec), after, desk)
        if outcome is None:
            return {}
        for channel, value in outcome.items():
            merged = isinstance(value, dict) and isinstance(changes.get(channel), dict)
            changes[channel] = {**changes[channel], **value} if merged else value
    return {**changes, "pending": [], "finished": []}


def with_changes(state: RunState, changes: Plain) -> RunState:
    """The state as it will be once `changes` are written: records are merged by id, as the reducers do."""
    merged = {
        channel: {**cast(Plain, state).get(channel, {}), **value} if channel in BY_ID else value
        for channel, value in changes.items()
    }
    return cast(RunState, {**state, **merged})


def _after_failure(job: Job, state: RunState, desk: Desk) -> Plain:
    """A failed attempt is data: an experiment without a model or a score, a move of the end given up, or the halt."""
    rejected = job.error.startswith(REJECTED)
    move = Move(state["move"])
    if job.purpose is Purpose.TRAINING:
        experiment = routing.experiments_of(state)[job.experiment]
        if state.get("halt") and job.state is JobState.CANCELLED and not rejected:
            experiment = training.stop_training(experiment, job)
            _file(experiment, desk)
            return update(experiments={experiment.id: experiment})
        noted = desk.journal.notes(DIAGNOSED).get(job.key)
        diagnosis = Diagnosis.model_validate(noted) if noted else None
        experiment = training.finish_training(experiment, job, diagnosis)
        _file(experiment, desk)
        text = f"{experiment.id} has no model: {job.error}"
        desk.emit("verdict", experiment=experiment.id, verdict=experiment.verdict, text=text)
        halt = _halt(state, job, rejected) if rejected and not _anything_left(state) else {}
        return update(experiments={experiment.id: experiment}, **halt)
    if move is Move.CANDIDATE:
        desk.emit("note", text=f"{job.experiment} has no score: {job.error}")
        gone = [*state.get("exhausted", []), routing.exhausted(move, job.experiment)]
        halt = _halt(state, job, rejected) if rejected and not _anything_left(state) else {}
        why = {"error": f"{job.experiment} has no score: {job.error}", **halt}
        return update(exhausted=gone, **({} if state.get("halt") else why))
    if move in routing.PUBLICATIONS and rejected:
        return update(exhausted=[*state.get("exhausted", []), routing.exhausted(move, "")])
    if move in routing.OF_THE_END:
        desk.emit("note", text=f"{move.value} did not work: {job.error}")
        return update(given_up=[*state.get("given_up", []), move.value])
    if job.purpose is Purpose.GENERATION and not state.get("halt"):
        changes = synthesis.after_failure(job, state, desk)
        if changes is not None:
            return changes
    return update(**_halt(state, job, rejected))


def _anything_left(state: RunState) -> bool:
    """Whether a refusal leaves something to go on with: a scored experiment, one in hand, or a recipe to try."""
    experiments = routing.experiments_of(state)
    in_hand = [e for e in experiments.values() if e.status in ("evaluated", "trained")]
    untried = len(experiments) < min(routing.DRAFTS, len(state.get("recipes", {})))
    return bool(in_hand) or (untried and routing.experiments_left(state) > 0)


def _halt(state: RunState, job: Job, rejected: bool) -> dict[str, str]:
    """The run's halt: the cap or cancellation behind it if there was one, else this failure."""
    if state.get("halt"):
        return {}
    what = f"the {job.purpose} job of {job.experiment} "
    return {
        "halt": "cancelled" if rejected else "failed",
        "error": what + (f"was {job.error}" if rejected else f"failed: {job.error}"),
    }


def _after_success(job: Job, spec: JobSpec, state: RunState, desk: Desk) -> Plain | None:
    goal = routing.goal_of(state)
    if job.purpose is Purpose.GENERATION:
        return synthesis.after_generation(job, spec, state, desk)
    if job.purpose is Purpose.TRAINING:
        experiments = routing.experiments_of(state)
        planned = experiments[job.experiment]
        before = experiments[planned.parent].recipe.epochs if planned.continues else 0
        approved = training.as_approved(planned, spec, script=goal.run.script, epochs_before=before)
        experiment = training.finish_training(approved, job)
        _file(experiment, desk)
        return update(experiments={experiment.id: experiment})
    if job.purpose is Purpose.MERGE:
        return hand_over(routing.experiments_of(state)[job.experiment], job, desk, goal, model_of(goal))
    if job.purpose is Purpose.PUBLICATION:
        what, channel = (
            ("model is", "pushed") if publications.is_of_a_model(spec) else ("training data are", "published")
        )
        desk.journal.note(channel, job.key, job.result)
        desk.emit("note", text=f"the {what} published: {job.result['url']}")
        return update(**{channel: job.result["url"]})
    try:
        return _after_evaluation(job, spec, state, desk, goal)
    except Interrupted as interrupted:
        return update(**interrupted.means) if interrupted.means["halt"] else None
    except (Unavailable, ContextExhausted):
        raise  # a judge, or the Hub: nothing was found out about the model, and the run goes on from here
    except BudgetSpent as spent:
        if Move(state["move"]) in routing.OF_THE_END:
            return _after_failure(job.model_copy(update={"error": str(spent)}), state, desk)
        desk.emit("note", text=f"the search ends here: {spent}")
        return update(halt="over_budget", error=str(spent))
    except PostgradError as error:
        return _after_failure(job.model_copy(update={"error": str(error)}), state, desk)


def _after_evaluation(job: Job, spec: JobSpec, state: RunState, desk: Desk, goal: Goal) -> Plain:
    """File the scores; a candidate is kept or discarded by them, the champion is compared with the baseline once."""
    name = str(spec.benchmark)
    results = scores_of(job, spec, benchmarks_of(goal)[name], goal, state, desk)
    for result in results:
        desk.journal.put(result, id=result.id)
    changes = update(results=scores(results))
    after = with_changes(state, changes)
    move = Move(state["move"])
    if move is Move.CANDIDATE:
        _require_same_settings(job.experiment, after)
        changes |= _judge(job.experiment, state, after, desk)
    if move is Move.CONFIRM:
        changes |= _claim(benchmarks_of(goal)[name], job.experiment, after, desk)
    if move is Move.BASELINE:
        told = ", ".join(f"{result.part} {result.metric}" for result in results)
        desk.emit("note", text=f"baseline on {name}: {told}")
    return changes


def scores_of(
    job: Job, spec: JobSpec, benchmark: Benchmark, goal: Goal, state: RunState, desk: Desk
) -> list[EvalResult]:
    """The scores of an evaluation job. Where a language model grades, what is worth knowing of that is filed and told.

    Raises Interrupted where the run is parked or has to end between two of its requests, and what `Judge.verdict`
    raises; done again, it goes on from the verdicts on disk.
    """
    answers = len(scored.read_answers(job)) if benchmark.is_written else 0
    kept = 0 if state["move"] in routing.OF_THE_END else state["stock"]["usd_kept_micro"]
    judge = desk.judge(spec, goal, answers, kept, lambda: heed(desk, goal, state))
    began, before = time.monotonic(), desk.budget(goal).spent().usd_micro
    try:
        results = scored.collect(job, spec, benchmark, goal, judge)
    finally:
        desk.count_time(time.monotonic() - began)
    if judge is not None:
        usd_micro = desk.budget(goal).spent().usd_micro - before
        # As if nothing had been graded before: what a resumed grading, or another run, had on disk cost nothing here.
        whole = usd_micro * (judge.asked + judge.reused) / max(1, judge.asked)
        share = sum(item.part is Part.REPORT for item in benchmark.items) / sum(result.n for result in results)
        cost = {"usd_micro": usd_micro, "report_usd_micro": round(share * whole)}
        desk.journal.note("judged", job.key, {**judge.notes, **cost})
        desk.emit("note", text=judge.told)
    return results


def _require_same_settings(name: str, state: RunState) -> None:
    """Raise PostgradError where a candidate was measured in another way than the baseline."""
    result, baseline = routing.selection_result(state, name), routing.selection_result(state, routing.BASELINE)
    if result and baseline and result.settings_digest != baseline.settings_digest:
        raise PostgradError(
            "it was measured with other settings than the baseline, or on other items: scores cannot be compared; "
            "resume, with the benchmark as it was, and approve the job as it is"
        )


def _judge(name: str, before: RunState, after: RunState, desk: Desk) -> Plain:
    """Keep what is the new incumbent, discard the rest. A heuristic that steers the search; it claims nothing."""
    old = routing.incumbent(before)
    kept = routing.incumbent(after) == name
    result, rival = routing.selection_result(after, name), routing.selection_result(after, old)
    experiment = routing.experiments_of(after)[name].model_copy(
        update={"status": "evaluated", "verdict": Verdict.KEEP if kept else Verdict.DISCARD}
    )
    _file(experiment, desk)
    if result is not None and rival is not None:
        lower = "" if result.higher_is_better else " (lower is better)"
        text = f"{name} scores {result.metric}{lower} on the selection items; {old} had {rival.score:.3f}"
        desk.emit("verdict", experiment=name, verdict=experiment.verdict, text=text)
    return update(experiments={name: experiment})


def _claim(source: Benchmark, name: str, state: RunState, desk: Desk) -> Plain:
    """The one comparison on the report items."""
    benchmark = source.name
    pair = [state["results"][f"{who}/{benchmark}/{Part.REPORT}"] for who in (routing.BASELINE, name)]
    claimed = scored.claim(EvalResult.model_validate(pair[0]), EvalResult.model_validate(pair[1]), source)
    desk.journal.put(claimed, id=benchmark)
    delta, low, high = (
        f"{100 * value:+.1f}" if claimed.unit == "fraction" else f"{value:+.3f}"
        for value in (claimed.delta, claimed.ci_low, claimed.ci_high)
    )
    unit = "points" if claimed.unit == "fraction" else "nats a token (lower is better)"
    text = f"{benchmark}: {delta} {unit} against the baseline on {claimed.n} items (95 % interval {low} to {high})"
    desk.emit("note", text=text)
    return update(claims={benchmark: claimed})


def _file(experiment: Experiment, desk: Desk) -> None:
    desk.journal.put(experiment, id=experiment.id)


def finish(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Say what the run has come to: its certificate, and the card in the delivered model.

    A champion whose certificate is violated is not delivered as one: its model is withheld, nothing is claimed, and the
    run has failed, so that whoever reads no report learns of it too.
    """
    desk = Desk.of(runtime)
    goal = routing.goal_of(state)
    certified = certificate.certificate_of(state, desk)
    violated = certificate.is_violated(certified)
    if violated:
        certificate.withhold(desk, model_of(goal))
    elif not state.get("delivered"):
        desk.journal.note("champion", "champion", {"experiment": routing.BASELINE, "model": model_of(goal).folder})
    else:
        digests = publications.digests_of(state)
        write_card(Path(state["model"]), publications.model_facts(desk, goal, state["delivered"], digests))
    learning.learn(state, desk)
    status, error = status_of(state)
    outcome = outcome_of(state)
    if violated:
        outcome = Outcome.NONE
    if violated and (state.get("delivered") or status is RunStatus.SUCCEEDED):
        status = RunStatus.FAILED
        error = f"the certificate of {certified['champion']} is violated ({certified['reasons'][0]}); see the report"
    desk.runs.update(desk.run_id, status=status, outcome=outcome, error=error, ended=time.time())
    desk.emit("status", status=status.value, outcome=outcome.value, text=error)
    return update(status=status.value, outcome=outcome.value, error=error)


def status_of(state: RunState) -> tuple[RunStatus, str]:
    """How the run ends, and the one line why where that is not success."""
    halt, error = state.get("halt", ""), state.get("error", "")
    if halt:
        return RunStatus(halt), error
    experiments = routing.experiments_of(state)
    crashed = [experiment for experiment in experiments.values() if experiment.verdict is Verdict.CRASH]
    if experiments and not any(experiment.status == "evaluated" for experiment in experiments.values()):
        unscored = [name for name in experiments if routing.is_exhausted(state, Move.CANDIDATE, name)]
        if unscored:
            return RunStatus.FAILED, state.get(
                "error", ""
            ) or f"{unscored[-1]} could not be scored; see `postgrad logs`"
        if crashed:
            return RunStatus.FAILED, f"{crashed[-1].id} crashed: {crashed[-1].error}"
    if routing.gave_up(state, Move.CONFIRM):
        return (
            RunStatus.FAILED,
            "the champion is saved, but its last evaluation failed; `postgrad resume` tries it again",
        )
    for move, what in ((Move.PUSH, "model"), (Move.PUBLISH, "training data")):
        if routing.gave_up(state, move):
            return RunStatus.FAILED, f"the {what} could not be published; `postgrad resume` tries it again"
    return RunStatus.SUCCEEDED, ""


def outcome_of(state: RunState) -> Outcome:
    """`improved` only where the paired interval on the primary benchmark's report items lies above zero."""
    goal = routing.goal_of(state)
    claim = state.get("claims", {}).get(goal.primary.id) if goal.benchmark else None
    if claim is not None and claim["experiment"] == state.get("delivered"):
        return Outcome.IMPROVED if ComparisonResult.model_validate(claim).win else Outcome.NO_IMPROVEMENT
    evaluated = any(experiment.status == "evaluated" for experiment in routing.experiments_of(state).values())
    return Outcome.NO_IMPROVEMENT if evaluated and not state.get("delivered") else Outcome.NONE
