"""Everything that a run left behind, read once: what the summary and the report are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postgrad.answer import BASELINE
from shared_memory.budget import Budget, Spend
from shared_memory.database import Database
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.ledger import Action, Ledger
from shared_memory.records import (
    ComparisonResult,
    DatasetRecord,
    Decision,
    EvalResult,
    Experiment,
    Finding,
    Job,
    Part,
    Recipe,
)
from shared_memory.run_paths import RunPaths
from shared_memory.runs import RunRow, Runs
from shared_memory.settings import Settings


@dataclass(frozen=True)
class Evidence:
    """The records of one run; dicts are by id, in order of first appearance."""

    row: RunRow
    goal: Goal
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
    saved: dict[str, Any]
    """The note on the champion, `{"experiment", "model"}`; empty while none is saved."""
    integrity: dict[str, Any]

    def result(self, experiment: str, benchmark: str, part: Part) -> EvalResult | None:
        return self.results.get(f"{experiment}/{benchmark}/{part}")

    @property
    def champion(self) -> str:
        """Id of the saved experiment; `baseline` while no experiment is ahead of it; empty while one is, unsaved.

        The baseline is a candidate too, and nothing needs saving where it stays the best.
        """
        if self.saved:
            return str(self.saved["experiment"])
        if not self.goal.benchmark:
            return ""
        baseline = self.result(BASELINE, self.goal.primary.id, Part.SELECTION)
        if baseline is None:
            return ""
        rivals = (self.result(name, self.goal.primary.id, Part.SELECTION) for name in self.experiments)
        return "" if any(rival and rival.score > baseline.score for rival in rivals) else BASELINE

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
    goal = Goal.model_validate(row.goal)
    journal, ledger = Journal(db, row.run_id), Ledger(db, row.run_id)
    integrity = journal.notes("integrity")
    return Evidence(
        row=row,
        goal=goal,
        paths=settings.run_paths(row.run_id),
        base_model=journal.notes("base_model").get("base_model", {}),
        findings=journal.all(Finding),
        recipes=journal.all(Recipe),
        datasets=journal.all(DatasetRecord),
        experiments=journal.all(Experiment),
        results=journal.all(EvalResult),
        comparisons=journal.all(ComparisonResult),
        jobs=journal.all(Job),
        decisions=ledger.decisions(),
        actions=ledger.actions(),
        spend=Budget(db, row.run_id, goal.limits).spent(),
        saved=journal.notes("champion").get("champion", {}),
        integrity=integrity.get("integrity", integrity),
    )


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a JSONL file, one a line; a missing file has none, and a line cut short is passed over."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
