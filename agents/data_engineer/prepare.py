"""Carries a data proposal out: the job that generates rows, and the way from files to a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agents.data_engineer.audit import MINIMUM_ROWS, audit, audit_letters
from agents.data_engineer.decontaminate import BenchmarkText, decontaminate
from agents.data_engineer.dedup import drop_near_duplicates
from agents.data_engineer.files import digest_of
from agents.data_engineer.filters import (
    balance_letters,
    drop_ambiguous,
    drop_empty,
    drop_exact_duplicates,
    drop_identical_pairs,
    keep_at_most,
)
from agents.data_engineer.formats import Message, Row, Table, read_rows, read_tables, trains
from agents.data_engineer.held_out import HeldOut, drop_held_out, require_unchanged
from agents.data_engineer.proposal import DataProposal, Generate
from agents.multiple_choice import LETTERS, render_multiple_choice
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import DatasetRecord, Estimate, Job, JobSpec, Purpose, Step, canonical_digest
from shared_memory.run_paths import RunPaths, write_atomically

GENERATED = Path("out") / "data.jsonl"
"""Where a generation job leaves its rows, in its folder."""
ROWS_PER_HOUR = 360_000
"""A script that computes its rows writes at least a hundred a second."""
START_HOURS = 5 / 3600


def generation_job(generate: Generate, *, paths: RunPaths, timeout_seconds: int) -> JobSpec:
    """The job that writes the rows; its script is kept in the run's file store.

    Raises BadInput where there is no such script.
    """
    script = Path(generate.script)
    if not script.is_file():
        raise BadInput(
            f"the generator {script} {'is not a file' if script.exists() else 'does not exist'}; check `data.generator`"
        )
    try:
        script.read_text(encoding="utf-8")
        digest = paths.store(script)
    except UnicodeDecodeError as error:
        raise BadInput(f"the generator {script} is not UTF-8 text; check `data.generator`") from error
    except OSError as error:
        raise BadInput(
            f"the generator {script} cannot be kept ({error.strerror or error}); check its permissions and the disk"
        ) from error
    hours = min(START_HOURS + generate.rows / ROWS_PER_HOUR, timeout_seconds / 3600)
    return JobSpec(
        purpose=Purpose.GENERATION,
        experiment="data",
        title=f"write {generate.rows} training rows with {script.name}",
        script=script.name,
        files={script.name: digest},
        config={"part": "train", "rows": generate.rows, "seed": generate.seed},
        timeout_seconds=timeout_seconds,
        estimate=Estimate(
            hours=hours, usd_micro=0, memory_gib=0.2, basis="a script that computes 100 rows a second, on this machine"
        ),
    )


def fault_of_output(job: Job) -> str:
    """Why a generation that says it succeeded did not: it left no rows that can be read. Empty if it did."""
    try:
        read_rows(generated_file(job))
    except BadInput as error:
        return str(error)
    return ""


def generated_file(job: Job) -> Path:
    """The rows that a generation job wrote. Raises BadInput where there are none."""
    path = Path(job.folder) / GENERATED
    if not path.is_file() or not path.stat().st_size:
        what = "is empty" if path.is_file() else "is missing"
        raise BadInput(f"the generator ended well but {path} {what}; a generator writes its rows to {GENERATED}")
    return path


def prepare(
    proposal: DataProposal,
    *,
    benchmarks: Sequence[BenchmarkText],
    folder: Path,
    seed: int,
    dataset_id: str = "d1",
    held_out: HeldOut | None = None,
) -> DatasetRecord:
    """Make the data set that the proposal asks for, as a file in `folder` that is named by its content.

    The rows that are held out, and all that resemble them, go before anything else is looked at. The same files,
    benchmarks and seed give the same bytes. Raises BadInput where a source cannot be used, where the rows cannot train
    the proposal's method, where a file that rows were held out of has changed, or where fewer than MINIMUM_ROWS rows
    are left, saying which step took how many.
    """
    if held_out is not None:
        require_unchanged(held_out)
    rows, steps, found_again = _rows_to_train_on(proposal, held_out)
    report = audit(rows)
    kept, cleaning, contamination = _clean(rows, proposal, benchmarks, seed)
    steps += cleaning
    if len(kept) < MINIMUM_ROWS:
        raise BadInput(_too_few(len(kept), steps))
    content = b"".join(_line(render(row, place=proposal.place_choice)) for row in kept)
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest[:16]}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror or error}); make room and resume") from error
    return DatasetRecord(
        id=dataset_id,
        source=", ".join(proposal.sources),
        revision=canonical_digest([digest_of(Path(source)) for source in proposal.sources]),
        path=str(path),
        digest=digest,
        method=proposal.method,
        rows=len(kept),
        steps=tuple(steps),
        contamination=found_again | contamination,
        findings=tuple(finding.line for finding in (*report.findings, *audit_letters(kept))),
    )


def _rows_to_train_on(
    proposal: DataProposal, held_out: HeldOut | None
) -> tuple[list[Row], list[Step], dict[str, float]]:
    """What the held-out rows leave of all rows, as the method takes them: SFT imitates the chosen reply of a pair.

    With the steps, and the share of the held-out rows that were found again.
    """
    if not proposal.sources:
        raise BadInput("there are no rows to prepare yet; run the generator first")
    tables = read_tables(proposal.sources)
    rows = [row for table in tables for row in table.rows]
    steps = [Step(name="convert", rows_in=len(rows), rows_out=len(rows), note=_conversion(tables))]
    if proposal.method not in trains(rows):
        lacking = sum(not row.rejected for row in rows)
        raise BadInput(
            f"{lacking} of {len(rows)} rows have no rejected reply, and {proposal.method} needs `prompt`, `chosen` and "
            "`rejected`; bring such pairs, or use method = 'sft'"
        )
    found_again: dict[str, float] = {}
    if held_out is not None:
        rows, dropping, found_again = drop_held_out(tables, held_out)
        steps += dropping
    if proposal.method == "sft":
        rows = [replace(row, rejected=()) if row.rejected else row for row in rows]
    return rows, steps, found_again


def _conversion(tables: Sequence[Table]) -> str:
    """Which columns became what; by file where files differ."""
    notes = {table.layout.note for table in tables}
    if len(notes) == 1:
        return notes.pop()
    return "; ".join(f"{table.path.name}: {table.layout.note}" for table in tables)


def _clean(
    rows: Sequence[Row], proposal: DataProposal, benchmarks: Sequence[BenchmarkText], seed: int
) -> tuple[list[Row], list[Step], dict[str, float]]:
    """The rows that are trained on; letters are balanced last, so that no later step undoes it."""
    steps: list[Step] = []
    kept: list[Row] = list(rows)
    pairs = (drop_identical_pairs,) if any(row.rejected for row in rows) else ()
    for filtered in (drop_empty, drop_ambiguous, *pairs, drop_exact_duplicates):
        kept, step = filtered(kept)
        steps.append(step)
    kept, step = drop_near_duplicates(kept, proposal.near_duplicate_threshold)
    steps.append(step)
    kept, step, contamination = decontaminate(kept, benchmarks)
    steps.append(step)
    if proposal.rows is not None:
        kept, step = keep_at_most(kept, proposal.rows, seed)
        steps.append(step)
    if proposal.balance_letters:
        kept, step = balance_letters(kept, seed)
        steps.append(step)
    return kept, steps, contamination


def _too_few(count: int, steps: Sequence[Step]) -> str:
    removed = ", ".join(
        f"{step.name} took {step.rows_in - step.rows_out}" for step in steps if step.rows_out < step.rows_in
    )
    return (
        f"{count} of {steps[0].rows_in} rows can be used ({removed or 'none was removed'}) "
        f"and {MINIMUM_ROWS} are needed; bring more rows, or others where they were taken out"
    )


def render(row: Row, *, place: bool = False) -> Row:
    """A multiple-choice row as chat: asked exactly as the evaluator asks, answered in the form that it scores.

    With `place`, an explanation is put so that its value leads to the letter (see `placed`).
    """
    if row.choices is None or row.answer is None:
        return row
    explanation = row.explanation.strip()
    if place:
        explanation = placed(explanation, row.choices, row.answer)
    reply = "\n\n".join(filter(None, [explanation, f"ANSWER: {row.answer}"]))
    return replace(
        row,
        prompt=(Message("user", render_multiple_choice(row.question, row.choices)),),
        completion=(Message("assistant", reply),),
    )


def placed(explanation: str, choices: Sequence[str], answer: str) -> str:
    """`55 J A, 5 W B, 55 N C, 9 m D; F = 11 × 5 = 55 N C`: the choices with their letters behind, before the working.

    A small model computes the right value and then cannot look up the letter that stands before it. What follows a
    token that it has read earlier it does repeat: that is what induction heads are for [Olsson et al. 2022, arXiv
    2209.11895]. So the letters are put where they follow. Only for an explanation that ends in the right choice.
    """
    value = explanation.removesuffix(".")
    if not value.endswith(choices[LETTERS.index(answer)]):
        return explanation
    listed = ", ".join(f"{choice} {letter}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{listed}\n{value} {answer}"


def _line(row: Row) -> bytes:
    """One line of the data set: a prompt with its completion, or with a chosen and a rejected one."""
    parts = {"prompt": row.prompt, "chosen" if row.rejected else "completion": row.completion}
    if row.rejected:
        parts["rejected"] = row.rejected
    value = {
        part: [{"role": message.role, "content": message.content} for message in messages]
        for part, messages in parts.items()
    }
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()
