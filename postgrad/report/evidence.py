"""Everything that a run left behind, read once: what the summary and the report are made of."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postgrad.answer import BASELINE
from shared_memory.budget import Budget, Spend
from shared_memory.database import Database
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.journal import Journal
from shared_memory.ledger import Action, Ledger
from shared_memory.records import (
    MICRO_USD,
    ComparisonResult,
    DatasetRecord,
    Decision,
    Diagnosis,
    EvalResult,
    Experiment,
    Finding,
    Job,
    JobSpec,
    Part,
    Purpose,
    Recipe,
)
from shared_memory.run_paths import RunPaths
from shared_memory.runs import RunRow, Runs
from shared_memory.settings import Settings

ROLE_OF = {
    Purpose.GENERATION: "data_engineer",
    Purpose.TRAINING: "trainer",
    Purpose.MERGE: "trainer",
    Purpose.PUBLICATION: "data_engineer",
    Purpose.EVALUATION: "evaluator",
    Purpose.ACTION: "researcher",  # one whose request was not recorded
}


@dataclass(frozen=True)
class Share:
    """What one role has spent."""

    role: str
    usd_micro: int
    seconds: float
    """In jobs."""
    jobs: int
    llm_tokens: int
    unpriced: tuple[str, ...] = ()
    """Models of which it used tokens at a price that nobody knows: what these took is not in `usd_micro`."""

    @property
    def usd(self) -> float | None:
        """Dollars; None where all that there is to know is that something was paid."""
        return None if self.unpriced and not self.usd_micro else self.usd_micro / MICRO_USD


@dataclass(frozen=True)
class Evidence:
    """The records of one run; dicts are by id, in order of first appearance."""

    row: RunRow
    asked: Goal
    """The goal as the person wrote it."""
    goal: Goal
    """The same, measured on the rows that were held out where it names no benchmark itself."""
    held_out: tuple[str, ...]
    """Ids of those rows."""
    paths: RunPaths
    base_model: dict[str, Any]
    """What the intake found out about it: name, folder, revision, parameters; empty before that."""
    findings: dict[str, Finding]
    recipes: dict[str, Recipe]
    datasets: dict[str, DatasetRecord]
    experiments: dict[str, Experiment]
    results: dict[str, EvalResult]
    comparisons: dict[str, ComparisonResult]
    """By benchmark."""
    jobs: dict[str, Job]
    decisions: tuple[Decision, ...]
    actions: tuple[Action, ...]
    spend: Spend
    tokens: dict[str, int]
    """Role → tokens of language models."""
    unpriced: dict[str, dict[str, bool]]
    """Role → the models that it used and whose price is unknown, as keys."""
    stand_ins: tuple[dict[str, str], ...]
    diagnoses: dict[str, Diagnosis]
    """Submission key → why the job failed."""
    """Where the playbook stood in for a language model: `{"role", "reason"}`."""
    published: dict[str, dict[str, Any]]
    pushed: dict[str, dict[str, Any]]
    """Where the model was published."""
    """Where the training data went, by the key of the job that took them there."""
    pinned: dict[str, dict[str, Any]]
    """Job key → `{"spec", "packages"}`: the job as it was submitted, and the versions beside it."""
    reproduction: dict[str, Any]
    """Of a run that does another's champion again: `{"of", …}` and, at its end, what came of it; else empty."""
    ablation: dict[str, Any]
    """Of a run that leaves parts of another's champion out: `{"of", "reference", …}` and what it has learned."""
    ablated: dict[str, dict[str, Any]]
    """Id of a run that left parts of this one's champion out → what it has learned."""
    reproduced: dict[str, dict[str, Any]]
    """Id of a run that did this one's champion again → what came of it."""
    saved: dict[str, Any]
    """The note on the champion, `{"experiment", "model"}`; empty while none is saved."""
    integrity: dict[str, Any]

    def result(self, experiment: str, benchmark: str, part: Part) -> EvalResult | None:
        return self.results.get(f"{experiment}/{benchmark}/{part}")

    def selection_result(self, experiment: str) -> EvalResult | None:
        """The score that steered the search."""
        return self.result(experiment, self.goal.primary.id, Part.SELECTION) if self.goal.benchmark else None

    def spec_of(self, job: Job) -> JobSpec | None:
        """The job as it was submitted; None where it was not recorded."""
        pinned = self.pinned.get(job.key)
        return JobSpec.model_validate(pinned["spec"]) if pinned else None

    def role_of(self, job: Job) -> str:
        """Whose job it is."""
        spec = self.spec_of(job) if job.purpose is Purpose.ACTION else None
        return str(spec.config["role"]) if spec else ROLE_OF[job.purpose]

    def by_role(self) -> list[Share]:
        """Dollars, time in jobs, jobs and tokens, by role in order of first appearance."""
        jobs = list(self.jobs.values())
        names = dict.fromkeys((*map(self.role_of, jobs), *self.spend.by_role, *self.tokens))
        return [
            Share(
                role=name,
                usd_micro=self.spend.by_role.get(name, 0),
                seconds=sum(job.seconds for job in jobs if self.role_of(job) == name),
                jobs=sum(self.role_of(job) == name for job in jobs),
                llm_tokens=self.tokens.get(name, 0),
                unpriced=tuple(self.unpriced.get(name, ())),
            )
            for name in names
        ]

    @property
    def champion(self) -> str:
        """Id of the saved experiment; `baseline` while no experiment is ahead of it; empty while one is, unsaved.

        The baseline is a candidate too, and nothing needs saving where it stays the best.
        """
        if self.saved:
            return str(self.saved["experiment"])
        baseline = self.selection_result(BASELINE)
        if baseline is None:
            return ""
        rivals = (self.selection_result(name) for name in self.experiments)
        return "" if any(rival and rival.metric.better_than(baseline.metric) for rival in rivals) else BASELINE

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """Ids of the benchmarks with a score of the base model, the goal's primary one first."""
        scored = dict.fromkeys(result.benchmark for result in self.results.values() if result.experiment == BASELINE)
        primary = self.goal.primary.id if self.goal.benchmark else ""
        return tuple(sorted(scored, key=lambda name: name != primary))

    def part_to_show(self, benchmark: str) -> Part:
        """Report where all that is shown was measured on it, else selection: one is never set against the other."""
        shown = {BASELINE, self.champion} - {""}
        on_report = all(self.result(model, benchmark, Part.REPORT) for model in shown)
        return Part.REPORT if on_report else Part.SELECTION


def gather(settings: Settings, db: Database, run_id: str) -> Evidence:
    """Read a run; `run_id` as `Runs.get` takes it, which raises BadInput for an unknown one."""
    row = Runs(db).get(run_id)
    asked = Goal.model_validate(row.goal)
    journal, ledger, budget = Journal(db, row.run_id), Ledger(db, row.run_id), Budget(db, row.run_id, asked.limits)
    integrity = journal.notes("integrity")
    held_out = journal.notes("held_out").get("held_out", {})
    return Evidence(
        row=row,
        asked=asked,
        goal=measured(asked, held_out),
        held_out=tuple(held_out.get("rows", ())),
        paths=settings.run_paths(row.run_id),
        base_model=journal.notes("base_model").get("base_model", {}),
        findings=journal.all(Finding),
        recipes=journal.recipes(),
        datasets=journal.all(DatasetRecord),
        experiments=journal.all(Experiment),
        results=journal.all(EvalResult),
        comparisons=journal.all(ComparisonResult),
        jobs=journal.all(Job),
        decisions=ledger.decisions(),
        actions=ledger.actions(),
        spend=budget.spent(),
        tokens=budget.tokens_by_role(),
        unpriced=journal.notes("unpriced by role"),
        stand_ins=tuple(journal.notes("stand_in").values()),
        diagnoses={key: Diagnosis.model_validate(plain) for key, plain in journal.notes("diagnosis").items()},
        published=journal.notes("published"),
        pushed=journal.notes("pushed"),
        pinned=journal.notes("pinned"),
        reproduction=journal.notes("reproduction").get("reproduction", {}),
        ablation=journal.notes("ablation").get("ablation", {}),
        ablated=journal.notes("ablated"),
        reproduced=journal.notes("reproduced"),
        saved=journal.notes("champion").get("champion", {}),
        integrity=integrity.get("integrity", integrity),
    )


def measured(asked: Goal, held_out: Mapping[str, Any]) -> Goal:
    """The goal with the benchmarks that its held-out rows make, where it names none; `held_out` is their note."""
    entries = tuple(BenchmarkGoal.model_validate(plain) for plain in held_out.get("benchmarks", ()))
    return asked.model_copy(update={"benchmark": entries}) if entries and not asked.benchmark else asked


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a JSONL file, one a line; a missing file has none, and a line cut short is passed over."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    # Not splitlines(): a JSON string may hold signs that it takes for the end of a line (U+0085, U+2028).
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def item_scores(result: EvalResult) -> dict[str, float]:
    """Item → score of a result, the mean where an item was asked several times; empty where the records are gone."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in read_lines(Path(result.items)):
        if row.get("part") == result.part and "id" in row and "score" in row:
            scores[str(row["id"])].append(float(row["score"]))
    return {item: sum(values) / len(values) for item, values in scores.items()}
