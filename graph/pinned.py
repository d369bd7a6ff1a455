"""What a champion stands on, as the run that made it pinned it: read back, and checked byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agents.base_model import BaseModel, find_base_model, fingerprint
from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark
from agents.evaluator.evaluation import settings_digest
from agents.evaluator.scored import item_scores
from graph.context import Desk
from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.records import DatasetRecord, EvalResult, Experiment, Job, JobSpec, JobState, Part, Purpose

T = TypeVar("T")
BASELINE = "baseline"
SAME = 1e-9
"""Two means of the same scores may differ by so much, for they were summed in another order."""


@dataclass(frozen=True)
class Pinned:
    """A job as it was submitted, and what came of it."""

    job: Job
    spec: JobSpec
    packages: dict[str, str]


@dataclass(frozen=True)
class Original:
    """A champion and its path."""

    desk: Desk
    goal: Goal
    """As it was measured; what a run that does it again is asked for."""
    lineage: tuple[Experiment, ...]
    """The champion last, before it the experiments whose checkpoints it went on from."""
    dataset: DatasetRecord
    path: tuple[Pinned, ...]
    """The trainings of the lineage, the merge where there was one, the evaluation on the report items."""
    result: EvalResult
    """The champion's score on the primary benchmark's report items."""
    baseline: EvalResult
    """The base model's score on the same."""
    base_model: dict[str, Any]
    """What the run noted about it."""

    @property
    def champion(self) -> Experiment:
        return self.lineage[-1]

    @property
    def model(self) -> BaseModel:
        return find_base_model(self.goal.base_model, self.goal.revision)


def read_original(desk: Desk) -> Original:
    """The champion of the desk's run with its path, from the records.

    Raises BadInput where the run has no champion of its own, or its records do not pin the way to it.
    """
    run_id, journal = desk.run_id, desk.journal
    experiments = journal.all(Experiment)
    name = journal.notes("champion").get("champion", {}).get("experiment", "")
    if name not in experiments:
        what = "its champion is the base model" if name == BASELINE else "it has saved no champion"
        raise BadInput(f"run {run_id} has no model of its own: {what}; `postgrad show {run_id}` tells how it stands")
    goal, base_model = _goal_of(desk), _record(journal.notes("base_model"), "base_model", "its model", desk)
    results = journal.all(EvalResult)
    result, baseline = (results.get(f"{who}/{goal.primary.id}/{Part.REPORT}") for who in (name, BASELINE))
    if result is None or baseline is None:
        raise BadInput(f"{name} of run {run_id} was not scored on the report items; `postgrad resume {run_id}` does it")
    lineage = [experiments[name]]
    while lineage[0].continues:
        lineage.insert(0, _record(experiments, lineage[0].parent, "experiment", desk))
    booked = {action.key: action.job for action in desk.ledger.actions() if action.job}
    jobs = booked | journal.all(Job)
    merges = [job for job in jobs.values() if job.purpose is Purpose.MERGE and job.experiment == name]
    merged = [job.key for job in merges if job.state is JobState.SUCCEEDED][-1:]
    keys = [*(experiment.jobs[-1] for experiment in lineage), *merged, result.job]
    return Original(
        desk=desk,
        goal=goal.model_copy(update={"revision": base_model.get("revision", "")}),
        lineage=tuple(lineage),
        dataset=_record(journal.all(DatasetRecord), lineage[-1].dataset, "data set", desk),
        path=tuple(_pinned(_record(jobs, key, "job", desk), desk) for key in keys),
        result=result,
        baseline=baseline,
        base_model=base_model,
    )


def _goal_of(desk: Desk) -> Goal:
    """The goal, measured on the rows that were held out where it names no benchmark; without its deadline."""
    goal = Goal.model_validate(desk.runs.get(desk.run_id).goal)
    benchmark = goal.benchmark
    if not benchmark:
        held_out = _record(desk.journal.notes("held_out"), "held_out", "its rows", desk)["benchmarks"]
        benchmark = tuple(BenchmarkGoal.model_validate(plain) for plain in held_out)
    limits = goal.limits.model_copy(update={"deadline": None})
    return goal.model_copy(update={"benchmark": benchmark, "limits": limits})


def _record(records: Mapping[str, T], name: str, what: str, desk: Desk) -> T:
    """The record called `name`; raises BadInput where it is gone."""
    if name not in records:
        raise BadInput(f"the record of {what} {name} of run {desk.run_id} is gone; bring its database back")
    return records[name]


def _pinned(job: Job, desk: Desk) -> Pinned:
    note = desk.journal.notes("pinned").get(job.key)
    if note is None:
        raise BadInput(
            f"run {desk.run_id} was made by a version that did not pin its jobs ({job.purpose} of {job.experiment}); "
            "run its goal again"
        )
    spec = JobSpec.model_validate(note["spec"])
    if spec.digest != job.spec_digest:
        raise BadInput(f"the record of “{spec.title}” has changed since the run; the database was edited")
    return Pinned(job, spec, note["packages"])


def verify(original: Original) -> None:
    """Raise BadInput naming the first input that is not what it was: a script, data, the model, the benchmark."""
    for pinned in original.path:
        for name, digest in pinned.spec.files.items():
            stored = original.desk.paths.stored(digest)
            _require(stored, digest, f"{name} of “{pinned.spec.title}”")
    if Path(original.dataset.path).exists():
        _require(Path(original.dataset.path), original.dataset.digest, f"data set {original.dataset.id}")
    model = original.model
    if fingerprint(Path(model.folder)) != original.base_model.get("fingerprint"):
        raise BadInput(
            f"the base model {model.name} has changed since the run ({model.folder}); bring the same one back"
        )
    entry, spec = original.goal.primary, original.path[-1].spec
    benchmark = load_benchmark(entry)
    if settings_digest(benchmark, spec, original.result.judge) != original.result.settings_digest:
        raise BadInput(
            f"benchmark {entry.id} ({entry.path or entry.name}), or what scores it, has changed since the run; "
            "bring the same file back, or take the version of postgrad that made the run"
        )
    for result in (original.result, original.baseline):
        require_scores(result, benchmark)


def require_scores(result: EvalResult, benchmark: Benchmark) -> None:
    """Raise BadInput where a result's item records do not give its score."""
    scores = item_scores(result, benchmark).values() if Path(result.items).is_file() else ()
    if not scores or abs(max(0.0, sum(scores) / len(scores)) - result.score) > SAME:
        raise BadInput(f"the item records of {result.experiment} do not give its score any more ({result.items})")


def _require(path: Path, digest: str, what: str) -> None:
    if not path.is_file():
        raise BadInput(f"{what} is gone ({path}); bring it back")
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
            raise BadInput(f"{what} has changed since the run ({path}); bring the original back")
