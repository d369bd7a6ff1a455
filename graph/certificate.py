"""A run's certificate: made and put on record at its end. A champion whose certificate is violated is withheld."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.base_model import BaseModel, weights_digest
from agents.evaluator.integrity.certify import certify
from agents.evaluator.integrity.measurement import digests_of
from graph import publications, routing
from graph.context import Desk
from graph.facts import WEIGHTS, facts_of
from graph.state import Plain, RunState
from shared_memory.records import DatasetRecord, EvalResult, Job, JobState, Purpose

NOTE = "integrity"
"""Kind and id of the note that holds the certificate."""
WITHHELD = "withheld"
"""Where in the run's folder the model of a violated certificate lies: `model` is for what is delivered."""


def note_weights(job: Job, desk: Desk) -> None:
    """Put the digest of what a training or a merge has made on record, once: what takes its place later is noticed."""
    made = job.result.get("model")
    if job.state is not JobState.SUCCEEDED or job.purpose not in (Purpose.TRAINING, Purpose.MERGE) or not made:
        return
    folder = Path(job.folder) / str(made)
    if folder.is_dir() and job.key not in desk.journal.notes(WEIGHTS):
        desk.journal.note(WEIGHTS, job.key, {"digest": weights_digest(folder)})


def certificate_of(state: RunState, desk: Desk) -> Plain:
    """The run's certificate as plain data, put on record; without `verdict` where nothing has been measured.

    Where the model was withheld before, in a step that a crash undid, it is the certificate that said so.
    """
    noted: Plain = desk.journal.notes(NOTE).get(NOTE, {})
    champion, model = state.get("delivered") or routing.BASELINE, state.get("model", "")
    if is_violated(noted) and noted["champion"] == champion and model and not Path(model).exists():
        return noted
    written = _evidence(state)
    if state.get("results"):
        facts = facts_of(state, desk, champion)
        written |= {**certify(facts).plain(), "evaluator": digests_of(facts.measured)}
    desk.journal.note(NOTE, NOTE, written)
    return written


def is_violated(certificate: Mapping[str, Any]) -> bool:
    return certificate.get("verdict") == "violated"


def withhold(desk: Desk, model: BaseModel) -> None:
    """Take the model out of the place of what is delivered; the champion is the base model then. Safe to repeat."""
    if desk.paths.model.exists():
        place = desk.paths.root / WITHHELD
        shutil.rmtree(place, ignore_errors=True)
        desk.paths.model.rename(place)
    desk.journal.note("champion", "champion", {"experiment": routing.BASELINE, "model": model.folder})


def _evidence(state: RunState) -> Plain:
    """What anyone needs to check the result by: digests of benchmark and settings, and of the data with its overlap."""
    results = [EvalResult.model_validate(plain) for plain in state.get("results", {}).values()]
    datasets = [DatasetRecord.model_validate(plain) for plain in state.get("datasets", {}).values()]
    return {
        "benchmarks": publications.digests_of(state),
        "settings": sorted({result.settings_digest for result in results}),
        "training_data": {dataset.id: _searched(dataset) for dataset in datasets},
        "approvals": f"approve = {routing.goal_of(state).run.approve}",
    }


def _searched(dataset: DatasetRecord) -> Plain:
    """A data set, and by what and for what it was searched before anything was trained on it."""
    found: Plain = {"sha256": dataset.digest, "contamination": dataset.contamination}
    if evidence := dataset.evidence:
        found |= {
            "searched_by": ", ".join(filter(None, (evidence.detector, *evidence.rules, evidence.embeddings))),
            "searched_for": evidence.items_digest,
            "rows_searched": evidence.rows_checked,
            "rows_flagged": evidence.rows_flagged,
        }
    return found
