"""The JSON that `run`, `resume`, `show` and `runs` print. Scores are in their own unit, money is dollars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postgrad.answer import BASELINE
from postgrad.report import ablations
from postgrad.report.evidence import Evidence, gather
from shared_memory.budget import Budget, Spend
from shared_memory.database import Database
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.records import MICRO_USD, EvalResult
from shared_memory.redaction import redact_plain
from shared_memory.run_paths import RunPaths
from shared_memory.runs import RunRow, Runs
from shared_memory.settings import Settings


def summarise(settings: Settings, db: Database, run_id: str) -> dict[str, Any]:
    """One run as plain data, whatever it has got to so far:

    `{run_id, status, outcome, error, goal, baseline {benchmark: {score, stderr, n, part, unit, higher_is_better}},
    champion {experiment, score {benchmark: …}, improvement {benchmark: {delta, ci_low, ci_high, p_value, test, mde,
    discordant, n, unit, higher_is_better, win}}, model} or {}, experiments [{id, branch, parent, change, recipe,
    status, verdict, error, score}], spent {usd, unpriced, llm_tokens, hours, jobs, by_role {role: usd}, roles {role:
    {usd, unpriced, hours, jobs, llm_tokens}}}, integrity {verdict, reasons, champion, checks [{name, verdict, found,
    reasons}], lineage, …} or {}, report}`, and of a run that does another's champion again `reproduction {of, verdict,
    reason}`

    `goal` is what the person wrote. Baseline and champion are scored on the same `part`: the report items where both
    were, else the selection items; the experiments on the primary benchmark's selection items (null without a score).
    `hours` is the run's driving time, and of a role the time of its jobs. `unpriced` lists language models whose price
    is unknown: what they took is not in `usd`, which is null for a role where nothing else is known. Raises BadInput
    for an unknown run.
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
        "goal": evidence.asked.plain(),
        "baseline": _scores(evidence, BASELINE),
        "champion": _champion(evidence),
        "experiments": [
            {
                "id": experiment.id,
                "branch": experiment.branch.value,
                "parent": experiment.parent,
                "change": experiment.change,
                "recipe": experiment.recipe.plain(),
                "status": experiment.status,
                "verdict": experiment.verdict.value if experiment.verdict else None,
                "error": experiment.error,
                "score": _score(result) if (result := evidence.selection_result(experiment.id)) else None,
            }
            for experiment in evidence.experiments.values()
        ],
        "spent": {**_spent(evidence.spend, row, evidence.unpriced), "roles": _roles(evidence)},
        "integrity": evidence.integrity,
        "report": _report(evidence.paths),
        "ablations": ablations.plain(evidence),
        **_reproduction(evidence),
        **_ablation(evidence),
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
            "spent": _spent(spend, row, Journal(db, row.run_id).notes("unpriced by role")),
            "report": _report(settings.run_paths(row.run_id)),
        }
    )
    return brief


def _report(paths: RunPaths) -> str:
    return str(paths.report_html) if paths.report_html.exists() else ""


def _spent(spend: Spend, row: RunRow, unpriced: Mapping[str, Mapping[str, bool]]) -> dict[str, Any]:
    return {
        "usd": spend.usd_micro / MICRO_USD,
        "unpriced": sorted({model for models in unpriced.values() for model in models}),
        "llm_tokens": spend.llm_tokens,
        "hours": row.active_seconds / 3600,
        "jobs": spend.jobs,
        "by_role": {
            role: None if role in unpriced and not usd_micro else usd_micro / MICRO_USD
            for role, usd_micro in spend.by_role.items()
        },
    }


def _reproduction(evidence: Evidence) -> dict[str, Any]:
    told = evidence.reproduction
    return {"reproduction": {key: told.get(key, "") for key in ("of", "verdict", "reason")}} if told else {}


def _ablation(evidence: Evidence) -> dict[str, Any]:
    told = evidence.ablation
    return {"ablation": {key: told.get(key, "") for key in ("of", "champion", "reference")}} if told else {}


def _roles(evidence: Evidence) -> dict[str, Any]:
    return {
        share.role: {
            "usd": share.usd,
            "unpriced": list(share.unpriced),
            "hours": share.seconds / 3600,
            "jobs": share.jobs,
            "llm_tokens": share.llm_tokens,
        }
        for share in evidence.by_role()
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
            key: {**claim.model_dump(mode="json", exclude={"benchmark", "experiment"}), "win": claim.win}
            for key, claim in claims.items()
        },
        "model": evidence.goal.base_model if name == BASELINE else str(evidence.saved.get("model", "")),
    }


def _scores(evidence: Evidence, experiment: str) -> dict[str, Any]:
    """Benchmark → score of a model on the part that is shown."""
    shown = {name: evidence.result(experiment, name, evidence.part_to_show(name)) for name in evidence.benchmarks}
    return {name: _score(result) for name, result in shown.items() if result is not None}


def _score(result: EvalResult) -> dict[str, Any]:
    return result.model_dump(mode="json", include={"score", "stderr", "n", "part", "unit", "higher_is_better"})
