"""The JSON that `run`, `resume`, `show` and `runs` print. Scores are fractions of 1, money is dollars."""

from __future__ import annotations

from typing import Any

from postgrad.answer import BASELINE
from postgrad.report.evidence import Evidence, gather
from shared_memory.budget import Budget, Spend
from shared_memory.database import Database
from shared_memory.goal import Goal
from shared_memory.records import MICRO_USD, EvalResult
from shared_memory.redaction import redact_plain
from shared_memory.run_paths import RunPaths
from shared_memory.runs import RunRow, Runs
from shared_memory.settings import Settings


def summarise(settings: Settings, db: Database, run_id: str) -> dict[str, Any]:
    """One run as plain data, whatever it has got to so far:

    `{run_id, status, outcome, error, goal, baseline {benchmark: {score, stderr, n, part}}, champion {experiment, score
    {benchmark: …}, improvement {benchmark: {delta, ci_low, ci_high, p_value, n}}, model} or {}, experiments [{id,
    parent, change, recipe, status, verdict}], spent {usd, llm_tokens, hours, jobs, by_role {role: usd}}, integrity,
    report}`

    Baseline and champion are scored on the same `part`: the report items where both were, else the selection items.
    Raises BadInput for an unknown run.
    """
    return summary_of(gather(settings, db, run_id))


def summarise_all(settings: Settings, db: Database) -> list[dict[str, Any]]:
    """All runs, newest first: `{run_id, status, outcome, text, started (epoch seconds), spent {usd, …}, report}`."""
    return [_brief(settings, db, row) for row in Runs(db).list()]


def summary_of(evidence: Evidence) -> dict[str, Any]:
    """`summarise`, from what was gathered; secrets are redacted."""
    row = evidence.row
    summary = {
        "run_id": row.run_id,
        "status": row.status.value,
        "outcome": row.outcome.value,
        "error": row.error,
        "goal": evidence.goal.plain(),
        "baseline": _scores(evidence, BASELINE),
        "champion": _champion(evidence),
        "experiments": [
            {
                "id": experiment.id,
                "parent": experiment.parent,
                "change": experiment.change,
                "recipe": experiment.recipe.plain(),
                "status": experiment.status,
                "verdict": experiment.verdict.value if experiment.verdict else None,
            }
            for experiment in evidence.experiments.values()
        ],
        "spent": _spent(evidence.spend, row),
        "integrity": evidence.integrity,
        "report": _report(evidence.paths),
    }
    redacted: dict[str, Any] = redact_plain(summary)
    return redacted


def _brief(settings: Settings, db: Database, row: RunRow) -> dict[str, Any]:
    spend = Budget(db, row.run_id, Goal.model_validate(row.goal).limits).spent()
    brief: dict[str, Any] = redact_plain(
        {
            "run_id": row.run_id,
            "status": row.status.value,
            "outcome": row.outcome.value,
            "text": row.text,
            "started": row.started,
            "spent": _spent(spend, row),
            "report": _report(settings.run_paths(row.run_id)),
        }
    )
    return brief


def _report(paths: RunPaths) -> str:
    return str(paths.report_html) if paths.report_html.exists() else ""


def _spent(spend: Spend, row: RunRow) -> dict[str, Any]:
    return {
        "usd": spend.usd_micro / MICRO_USD,
        "llm_tokens": spend.llm_tokens,
        "hours": row.active_seconds / 3600,
        "jobs": spend.jobs,
        "by_role": {role: usd_micro / MICRO_USD for role, usd_micro in spend.by_role.items()},
    }


def _champion(evidence: Evidence) -> dict[str, Any]:
    name = evidence.champion
    if not name:
        return {}
    claims = {key: claim for key, claim in evidence.comparisons.items() if claim.experiment == name}
    return {
        "experiment": name,
        "score": _scores(evidence, name),
        "improvement": {
            key: claim.model_dump(mode="json", include={"delta", "ci_low", "ci_high", "p_value", "n"})
            for key, claim in claims.items()
        },
        "model": evidence.goal.base_model if name == BASELINE else str(evidence.saved.get("model", "")),
    }


def _scores(evidence: Evidence, experiment: str) -> dict[str, Any]:
    """Benchmark → score of a model on the part that is shown."""
    shown = {name: evidence.result(experiment, name, evidence.part_to_show(name)) for name in evidence.benchmarks}
    return {name: _score(result) for name, result in shown.items() if result is not None}


def _score(result: EvalResult) -> dict[str, Any]:
    return {"score": result.score, "stderr": result.stderr, "n": result.n, "part": result.part.value}
