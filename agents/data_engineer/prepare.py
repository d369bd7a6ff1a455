"""Carries a data proposal out: the job that generates rows, and the way from files to a data set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from agents.data_engineer.audit import MINIMUM_ROWS, audit, audit_letters
from agents.data_engineer.cleaning import ALWAYS_UNWANTED, UNWANTED, Unwanted, repair_text
from agents.data_engineer.contamination.decontaminate import BenchmarkText, screen, step_of
from agents.data_engineer.duplicates.dedup import drop_near_duplicates
from agents.data_engineer.filters import (
    balance_letters,
    drop_ambiguous,
    drop_empty,
    drop_exact_duplicates,
    drop_identical_pairs,
    keep_at_most,
)
from agents.data_engineer.formats.layouts import as_trained, line
from agents.data_engineer.formats.methods import Method, Trainable, answers_of
from agents.data_engineer.formats.rendering import render as render
from agents.data_engineer.formats.tables import TOLERATED, Row, Table, read_rows, read_tables
from agents.data_engineer.held_out import HeldOut, drop_held_out, require_unchanged
from agents.data_engineer.leaving_out import HALF, PLACE, source_of, without_source
from agents.data_engineer.mixture import mix
from agents.data_engineer.proposal import DataProposal, Generate
from agents.programs import WRITTEN
from agents.reading.files import digest_of
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import (
    ContaminationEvidence,
    DatasetRecord,
    Estimate,
    Job,
    JobSpec,
    Purpose,
    Step,
    canonical_digest,
)
from shared_memory.run_paths import RunPaths, write_atomically

GENERATED = Path("out") / "data.jsonl"
"""Where a generation job leaves its rows, in its folder."""
ROWS_PER_HOUR = 360_000
"""A script that computes its rows writes at least a hundred a second."""
START_HOURS = 5 / 3600


def generation_job(
    generate: Generate, *, paths: RunPaths, timeout_seconds: int, sandbox: Literal["auto", "none"] = "auto"
) -> JobSpec:
    """The job that writes the rows, in a sandbox as the goal says; its script is kept in the run's file store.

    What a model wrote is always kept apart, and always asked about where anything is. Raises BadInput where there is
    no such script.
    """
    name, digest = (WRITTEN, paths.store(generate.program.encode())) if generate.program else _kept(generate, paths)
    hours = min(START_HOURS + generate.rows / ROWS_PER_HOUR, timeout_seconds / 3600)
    return JobSpec(
        purpose=Purpose.GENERATION,
        experiment="data",
        title=f"write {generate.rows} training rows with {generate.writer}",
        script=name,
        files={name: digest},
        config={"part": "train", "rows": generate.rows, "seed": generate.seed},
        timeout_seconds=timeout_seconds,
        sandbox="auto" if generate.program else sandbox,
        custom=bool(generate.program),
        estimate=Estimate(
            hours=hours, usd_micro=0, memory_gib=0.2, basis="a script that computes 100 rows a second, on this machine"
        ),
    )


def _kept(generate: Generate, paths: RunPaths) -> tuple[str, str]:
    """Name and digest of the goal's generator. Raises BadInput where it is no readable text."""
    script = Path(generate.script)
    if not script.is_file():
        raise BadInput(
            f"the generator {script} {'is not a file' if script.exists() else 'does not exist'}; check `data.generator`"
        )
    try:
        script.read_text(encoding="utf-8")
        return script.name, paths.store(script)
    except UnicodeDecodeError as error:
        raise BadInput(f"the generator {script} is not UTF-8 text; check `data.generator`") from error
    except OSError as error:
        raise BadInput(
            f"the generator {script} cannot be kept ({error.strerror or error}); check its permissions and the disk"
        ) from error


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
    on_contamination: Literal["drop", "stop"] = "drop",
    unwanted: Collection[Unwanted] = ALWAYS_UNWANTED,
    weights: Mapping[str, float] | None = None,
    without: Collection[str] = (),
) -> DatasetRecord:
    """Make the data set that the proposal asks for, as a file in `folder` that is named by its content.

    The rows that are held out, and all that resemble them, go before anything else is looked at. Rows that contain an
    item of a benchmark are left out, or stop the making; rows that hold something `unwanted` are left out. `weights`,
    one for each of the proposal's sources, mix them in that proportion (see `mixture.mix`). `without` names sources, or
    entries of `leaving_out.STEPS`, that are left out with all else as it is. The same files, benchmarks and seed give
    the same bytes.

    Raises BadInput where a source cannot be used, more than TOLERATED of a file's rows cannot be, the rows cannot train
    the proposal's method, a file that rows were held out of has changed, contamination is to stop the making, or fewer
    than MINIMUM_ROWS rows are left, saying which step took how many.
    """
    if held_out is not None:
        require_unchanged(held_out)
    if not proposal.sources:
        raise BadInput("there are no rows to prepare yet; run the generator first")
    tables = read_tables(proposal.sources, tolerated=TOLERATED)
    rows, steps, found_again = _rows_to_train_on(tables, proposal.method, held_out)
    for source in (source for source in proposal.sources if source in without):
        rows, step = without_source(rows, tables, source)
        steps.append(step)
    report = audit(rows)
    kept, cleaning, evidence = _clean(rows, proposal, benchmarks, unwanted, on_contamination, without)
    kept, sampling = _sampled(kept, proposal, tables, weights, seed, without)
    steps += [*cleaning, *sampling]
    different = len({row.id for row in kept})  # a mixture repeats rows
    if different < MINIMUM_ROWS:
        raise BadInput(_too_few(different, steps))
    place = proposal.place_choice and PLACE not in without
    content = b"".join(line(render(row, place=place), proposal.method) for row in kept)
    path, digest = _written(content, folder)
    return DatasetRecord(
        id=dataset_id,
        source=", ".join(proposal.sources),
        revision=_revision(tables),
        path=str(path),
        digest=digest,
        method=proposal.method,
        answers=answers_of(kept) if proposal.method == "grpo" else "",
        rows=len(kept),
        steps=tuple(steps),
        licence=", ".join(dict.fromkeys(table.source.licence for table in tables if table.source.licence)),
        contamination=found_again | evidence.shares,
        evidence=evidence,
        findings=tuple(finding.line for finding in (*report.findings, *audit_letters(kept))),
        making={
            "proposal": proposal.plain(),
            "weights": dict(weights) if weights is not None else None,
            "files": {str(table.path): digest_of(table.path) for table in tables},
        },
        without=tuple(without),
    )


def _written(content: bytes, folder: Path) -> tuple[Path, str]:
    """Where the content is kept, and its sha256."""
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest[:16]}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror or error}); make room and resume") from error
    return path, digest


def _revision(tables: Sequence[Table]) -> str:
    """The Hub's commit of the one data set there is; else a digest of all files, after the commits of those it has."""
    commits = dict.fromkeys(f"{table.source.origin}@{table.source.revision}" for table in tables if table.source.origin)
    if len(commits) == 1 and all(table.source.origin for table in tables):
        return tables[0].source.revision
    return ", ".join([*commits, canonical_digest([digest_of(table.path) for table in tables])])


def _rows_to_train_on(
    tables: Sequence[Table], method: Method, held_out: HeldOut | None
) -> tuple[list[Row], list[Step], dict[str, float]]:
    """What the held-out rows leave of all rows, as the method takes them.

    With the steps, and the share of the held-out rows that were found again.
    """
    rows = [row for table in tables for row in table.rows]
    steps = _reading(tables, len(rows))
    trainable = Trainable().see(rows)
    if why := trainable.why_not(method):
        others = " or ".join(f"'{other}'" for other in trainable.methods)
        raise BadInput(f"{why}; bring such rows, or use method = {others}" if others else f"{why}; bring such rows")
    found_again: dict[str, float] = {}
    if held_out is not None:
        rows, dropping, found_again = drop_held_out(tables, held_out)
        steps += dropping
    passages = sum(bool(row.passage) for row in rows)
    if 0 < passages < len(rows):
        raise BadInput(
            f"{passages} of {len(rows)} rows are passages of text and the others conversations, and one training "
            "takes either; name files of one kind"
        )
    if method == "sft":
        wanted = as_trained(rows, method)
        if len(wanted) < len(rows):
            steps.append(Step(name="drop_unwanted_replies", rows_in=len(rows), rows_out=len(wanted), note="by label"))
        rows = wanted
    return rows, steps, found_again


def _reading(tables: Sequence[Table], rows: int) -> list[Step]:
    """The first steps: what could not be read or used, where that was anything, and which columns became what."""
    left_out: Counter[str] = Counter()
    for table in tables:
        left_out.update(table.left_out)
    reading = []
    if total := left_out.total():
        note = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in sorted(left_out.items()))
        reading = [Step(name="drop_unusable", rows_in=rows + total, rows_out=rows, note=note)]
    return [*reading, Step(name="convert", rows_in=rows, rows_out=rows, note=_conversion(tables))]


def _conversion(tables: Sequence[Table]) -> str:
    """Which columns became what; by file where files differ."""
    notes = {table.layout.note for table in tables}
    if len(notes) == 1:
        return notes.pop()
    return "; ".join(f"{table.path.name}: {table.layout.note}" for table in tables)


def _clean(
    rows: Sequence[Row],
    proposal: DataProposal,
    benchmarks: Sequence[BenchmarkText],
    unwanted: Collection[Unwanted],
    on_contamination: Literal["drop", "stop"],
    without: Collection[str],
) -> tuple[list[Row], list[Step], ContaminationEvidence]:
    """The rows that may be trained on."""
    steps: list[Step] = []
    kept: list[Row] = list(rows)
    pairs = (drop_identical_pairs,) if any(row.rejected for row in rows) else ()
    left_out = [UNWANTED[name] for name in UNWANTED if name in unwanted]
    for filtered in (repair_text, drop_empty, drop_ambiguous, *pairs, *left_out, drop_exact_duplicates):
        if filtered.__name__ not in without:
            kept, step = filtered(kept)
            steps.append(step)
    if drop_near_duplicates.__name__ not in without:
        kept, step = drop_near_duplicates(kept, proposal.near_duplicate_threshold)
        steps.append(step)
    kept, evidence = screen(kept, benchmarks)
    if on_contamination == "stop" and evidence.rows_flagged:
        raise BadInput(_contaminated(evidence))
    return kept, [*steps, step_of(evidence)], evidence


def _contaminated(evidence: ContaminationEvidence) -> str:
    found = {name: entry for name, entry in evidence.benchmarks.items() if entry.rows_flagged}
    rows = ", ".join(example.row for entry in found.values() for example in entry.examples[:3])
    return (
        f"{evidence.rows_flagged} of {evidence.rows_checked} rows contain items of {', '.join(found)}, the first "
        f"{rows}; take them out of the data, or have them left out with [rules] contaminated = 'drop'"
    )


def _sampled(
    rows: Sequence[Row],
    proposal: DataProposal,
    tables: Sequence[Table],
    weights: Mapping[str, float] | None,
    seed: int,
    without: Collection[str],
) -> tuple[list[Row], list[Step]]:
    """As many rows as are wanted, in the wanted proportion; letters are balanced last, so that no step undoes it."""
    steps: list[Step] = []
    kept = list(rows)
    if weights is not None and "mix" not in without:
        left = {name: weight for name, weight in weights.items() if name not in without}
        given = (table.source.given for table in tables)
        parts: dict[str, list[Row]] = {name: [] for name in given if name not in without}
        for row in kept:
            parts[source_of(row, tables)].append(row)
        kept, step = mix(parts, left, seed=seed, rows=proposal.rows)
        steps.append(step)
    elif proposal.rows is not None:
        kept, step = keep_at_most(kept, proposal.rows, seed)
        steps.append(step)
    if HALF in without:
        kept, step = keep_at_most(kept, len(kept) // 2, seed)
        steps.append(step)
    if proposal.balance_letters and balance_letters.__name__ not in without:
        kept, step = balance_letters(kept, seed)
        steps.append(step)
    if proposal.method == "kto" and (singles := as_trained(kept, "kto")) != kept:
        steps.append(Step(name="unpair", rows_in=len(kept), rows_out=len(singles), note="a wanted, an unwanted reply"))
        kept = singles
    return kept, steps


def _too_few(count: int, steps: Sequence[Step]) -> str:
    removed = ", ".join(
        f"{step.name} took {step.rows_in - step.rows_out}" for step in steps if step.rows_out < step.rows_in
    )
    return (
        f"{count} of {steps[0].rows_in} rows can be used ({removed or 'none was removed'}) "
        f"and {MINIMUM_ROWS} are needed; bring more rows, or others where they were taken out"
    )
