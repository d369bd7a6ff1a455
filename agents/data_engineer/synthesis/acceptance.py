"""The gates that written rows pass, whoever wrote them: a sample, the check of every row, novelty, the audit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.data_engineer.audit import audit_sources
from agents.data_engineer.duplicates.dedup import drop_near_duplicates
from agents.data_engineer.filters import drop_exact_duplicates
from agents.data_engineer.formats.rows import Row
from agents.data_engineer.formats.tables import read_rows
from agents.data_engineer.synthesis.verify import Candidate, Checked, Verifier, sampled, stop_reason
from agents.reading.files import read_records
from shared_memory.records import Step
from shared_memory.run_paths import write_atomically

_NEW = "new:"
"""How the ids of written rows begin here, so that no row of the goal's has the same."""


@dataclass(frozen=True)
class Accepted:
    """What the gates let through."""

    file: Path | None
    """The rows that passed, as they were written; None where they are not worth having."""
    rows: int
    steps: tuple[Step, ...]
    stopped: str = ""
    """Why there is no file, with the numbers."""


def accept(
    written: Path, beside: Sequence[Row], *, verifier: Verifier, threshold: float, seed: int, folder: Path
) -> Accepted:
    """Let written rows through that are right, and that nobody has yet.

    `beside` are the goal's rows, of which none may be repeated; `threshold` is the similarity from which a row repeats
    another. A sample goes first: where more than a fifth of it is wrong the rest is not looked at. The same rows and
    outcomes give the same file. Raises BadInput where the rows cannot be read.
    """
    records, rows = read_records(written), read_rows(written)
    candidates = [
        Candidate(replace(row, id=f"{_NEW}{number}"), str(record.get("computation") or ""))
        for number, (row, record) in enumerate(zip(rows, records, strict=True))
    ]
    first = sampled(candidates, seed)
    sample = [candidates[place] for place in first]
    outcomes = dict(zip(first, verifier.check(sample), strict=True))
    if stopped := stop_reason(sample, list(outcomes.values()), verifier.name):
        return Accepted(None, 0, (), stopped)
    others = [place for place in range(len(candidates)) if place not in outcomes]
    outcomes |= zip(others, verifier.check([candidates[place] for place in others]), strict=True)
    right, verified = _verified(candidates, [outcomes[place] for place in range(len(candidates))], verifier)
    new, novelty = _new(right, beside, threshold)
    steps = (verified, novelty)
    if not new:
        return Accepted(None, 0, steps, f"none of {len(rows)} written rows is left: {_taken(steps)}")
    kept = [records[int(row.id.removeprefix(_NEW))] for row in new]
    content = "".join(json.dumps(dict(record), ensure_ascii=False) + "\n" for record in kept).encode()
    file = folder / f"written-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content)
    report = audit_sources([str(file)])
    if report["verdict"] == "unfit":
        faults = "; ".join(found["advice"] for found in report["findings"] if found["severity"] == "error")
        return Accepted(None, 0, steps, f"the audit finds {len(new)} of {len(rows)} written rows unfit: {faults}")
    return Accepted(file, len(new), steps)


def _verified(
    candidates: Sequence[Candidate], outcomes: Sequence[Checked], verifier: Verifier
) -> tuple[list[Row], Step]:
    """Without what is wrong. What shows nothing to be calculated stays; what a model was to check and did not, goes."""
    kept = [
        candidate.row for candidate, checked in zip(candidates, outcomes, strict=True) if _passes(checked, verifier)
    ]
    counts = {answer: sum(checked.right is answer for checked in outcomes) for answer in (True, False, None)}
    note = f"{verifier.name}: {counts[True]} right, {counts[False]} wrong, {counts[None]} not to be checked"
    return kept, Step(name="verify", rows_in=len(candidates), rows_out=len(kept), note=note)


def _passes(checked: Checked, verifier: Verifier) -> bool:
    return bool(checked.right) or (checked.right is None and verifier.name == "computed")


def _new(rows: Sequence[Row], beside: Sequence[Row], threshold: float) -> tuple[list[Row], Step]:
    """Without what repeats a row of the goal's, or an earlier one of these."""
    distinct, _ = drop_exact_duplicates([*beside, *rows])
    distinct, near = drop_near_duplicates(distinct, threshold)
    kept = [row for row in distinct if row.id.startswith(_NEW)]
    note = f"against {len(beside)} rows that were there and among themselves; {near.note}"
    return kept, Step(name="novelty", rows_in=len(rows), rows_out=len(kept), note=note)


def _taken(steps: Sequence[Step]) -> str:
    return ", ".join(f"{step.name} took {step.rows_in - step.rows_out}" for step in steps)
