"""What the certificate of a run looks at, gathered from its records and its files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.base_model import fingerprint, parameters_of, weights_digest
from agents.data_engineer.contamination.decontaminate import items_digest
from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark
from agents.evaluator.integrity.answer_tables import LARGEST, code_in, texts_in
from agents.evaluator.integrity.facts import Facts, Kept, Measured, Program, TrainingSet
from agents.evaluator.integrity.lineage import Lineage, Training, lineage
from agents.evaluator.integrity.measurement import shipped_programs
from agents.trainer import delivery, methods, training
from graph import publications, routing
from graph.briefing import in_full, model_of
from graph.clean_hands import DATA, texts_of
from graph.context import Desk
from graph.state import RunState
from shared_memory.errors import PostgradError
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.records import DatasetRecord, EvalResult, Experiment, Job, JobSpec, JobState, Purpose

WEIGHTS = "weights"
"""Kind of the journal's notes on what jobs have made: submission key → digest of the weights when the job had ended."""
AREA = {"constant": 1.0, "linear": 0.5, "cosine": 0.5}
"""Share of its peak that a schedule's learning rate is on average, warm-up included."""


@dataclass(frozen=True)
class _Books:
    """The run's records; those of the run that it does again, where it does one."""

    desk: Desk
    jobs: Mapping[str, Job]
    specs: Mapping[str, JobSpec]

    @classmethod
    def of(cls, desk: Desk) -> _Books:
        told = desk.journal.notes("reproduction").get("reproduction", {})
        desks = [*([Desk(told["of"], desk.context)] if told else []), desk]
        jobs = {key: job for each in desks for key, job in each.journal.all(Job).items()}
        pinned = {key: note for each in desks for key, note in each.journal.notes("pinned").items()}
        return cls(desk, jobs, {key: JobSpec.model_validate(note["spec"]) for key, note in pinned.items()})


def facts_of(state: RunState, desk: Desk, champion: str) -> Facts:
    """What there is to look at of a run whose champion is an experiment, or `baseline`."""
    goal, books = routing.goal_of(state), _Books.of(desk)
    benchmarks, lost = _benchmarks(goal)
    path = _path_to(champion, state)
    merge = _merge_of(path[-1], books) if path else None
    delivered = Path(state["model"]) if path and state.get("model") else None
    lineages, unknown = _lineages(path, merge, goal, books) if delivered else ([], [])
    if delivered is not None and not delivered.is_dir():
        unknown.append("the delivered model is gone")
    base = Path(model_of(goal).folder)
    measured = list(_measured(state, books, champion))
    writers = {(s.config["teacher"], s.flavor == "hosted") for s in books.specs.values() if s.runner == "teacher"}
    return Facts(
        champion=champion,
        promised=publications.digests_of(state),
        benchmarks=benchmarks,
        lost=lost,
        measured=measured,
        lineages=lineages,
        unknown=unknown,
        kept=[*_base_kept(desk), *_weights_kept(path, merge, books)],
        training_sets=list(_training_sets(path, goal, benchmarks, books)),
        programs=list(_programs(path, merge, measured, books)),
        texts=texts_in(delivered, base) if delivered else {},
        code=code_in(delivered, base) if delivered else (),
        teachers=sorted(writers),
        hosted_teacher=goal.rules.hosted_teacher,
    )


def _benchmarks(goal: Goal) -> tuple[dict[str, Benchmark], dict[str, str]]:
    """The goal's benchmarks as they are now, and why some cannot be read."""
    found: dict[str, Benchmark] = {}
    lost: dict[str, str] = {}
    for entry in goal.benchmark:
        try:
            found[entry.id] = load_benchmark(entry)
        except PostgradError as error:
            lost[entry.id] = str(error)
    return found, lost


def _measured(state: RunState, books: _Books, champion: str) -> Iterator[Measured]:
    results = {key: EvalResult.model_validate(plain) for key, plain in state.get("results", {}).items()}
    for result in in_full(results, books.desk.journal).values():
        if result.experiment in (routing.BASELINE, champion):
            yield Measured(result, books.jobs.get(result.job), books.specs.get(result.job))


def _path_to(champion: str, state: RunState) -> list[Experiment]:
    """The experiments whose weights the champion goes on from, itself last; none for the base model."""
    experiments = routing.experiments_of(state)
    path = [experiments[champion]] if champion in experiments else []
    while path and path[0].continues and path[0].parent in experiments:
        path.insert(0, experiments[path[0].parent])
    return path


def _merge_of(experiment: Experiment, books: _Books) -> Job | None:
    merges = [job for job in books.jobs.values() if job.purpose is Purpose.MERGE and job.experiment == experiment.id]
    return next((job for job in reversed(merges) if job.state is JobState.SUCCEEDED), None)


def _lineages(
    path: Sequence[Experiment], merge: Job | None, goal: Goal, books: _Books
) -> tuple[list[Lineage], list[str]]:
    """What each delivered folder is, compared with the base; and what could not be compared."""
    champion, model = path[-1], model_of(goal)
    merged = books.specs.get(merge.key) if merge else None
    by_adapter = champion.adapter and merged is not None and merged.config.get("method") == "adapter"
    teacher = Path(goal.distill_from) if goal.distill_from else None
    could_be = teacher is not None and teacher.is_dir() and parameters_of(teacher) == model.parameters
    found, unknown = [], []
    for folder in (books.desk.paths.model / name for name in ("merged", "adapter")):
        if not folder.is_dir():
            continue
        try:
            compared = lineage(
                Path(model.folder),
                folder,
                names=(model.name,),
                training=_training_of(path, books),
                adapter=Path(champion.model) if by_adapter else None,
                others={f"its teacher {teacher.name}": teacher} if teacher and could_be else {},
            )
            found.append(compared)
        except (PostgradError, OSError, ValueError) as error:
            unknown.append(f"{folder.name} cannot be compared with the base ({str(error).splitlines()[0]})")
    return found, unknown


def _training_of(path: Sequence[Experiment], books: _Books) -> Training | None:
    """All trainings on the way to a champion, taken together; None where one is not on record."""
    datasets = books.desk.journal.all(DatasetRecord)
    updates, travel, ours = 0, 0.0, True
    for experiment in path:
        spec = books.specs.get(experiment.jobs[-1]) if experiment.jobs else None
        if spec is None or experiment.dataset not in datasets:
            return None
        steps = _updates(spec.config, datasets[experiment.dataset].rows)
        updates += steps
        share = AREA.get(str(spec.config.get("lr_scheduler")), 1.0)
        travel += float(spec.config.get("learning_rate", 0)) * (share * steps + 1)
        ours = ours and all(program.shipped for program in _programs_in(spec, books.desk))
    lora = path[-1].recipe.lora
    return Training(
        updates=updates,
        travel=travel,
        rank=lora.r if lora else 0,
        ours=ours,
        new_head=path[-1].recipe.method == "reward",
    )


def _updates(config: Mapping[str, Any], rows: int) -> int:
    """Weight updates that a training's settings make of so many rows: as many as there are, or fewer where it packs."""
    if config.get("max_steps"):
        return int(config["max_steps"])
    of_an_epoch = math.ceil(rows * int(config.get("num_generations", 1)) / int(config.get("batch", 1)))
    return math.ceil(float(config.get("epochs", 1)) * of_an_epoch)


def _base_kept(desk: Desk) -> Iterator[Kept]:
    """The base model, as intake found it and as it is."""
    noted = desk.journal.notes("base_model").get("base_model", {})
    if noted.get("fingerprint") and noted.get("folder"):
        folder = Path(noted["folder"])
        yield Kept("the base model", noted["fingerprint"], fingerprint(folder) if folder.is_dir() else "")


def _weights_kept(path: Sequence[Experiment], merge: Job | None, books: _Books) -> Iterator[Kept]:
    """What the trainings and the merge have left, and what was delivered of it."""
    noted = {key: note["digest"] for key, note in books.desk.journal.notes(WEIGHTS).items()}
    for experiment in path:
        then = noted.get(experiment.jobs[-1], "") if experiment.jobs else ""
        yield Kept(f"what the training of {experiment.id} left", then, _weights_now(Path(experiment.model)))
    if not path:
        return
    trained = noted.get(path[-1].jobs[-1], "") if path[-1].jobs else ""
    merged = trained
    if merge is not None:
        merged = noted.get(merge.key, "")
        left = Path(merge.folder) / str(merge.result.get("model"))
        yield Kept(f"what the merge of {path[-1].id} left", merged, _weights_now(left))
    for name, then in (("merged", merged), ("adapter", trained)):
        folder = books.desk.paths.model / name
        if folder.is_dir():
            yield Kept(f"the delivered model ({name})", then, _weights_now(folder))


def _weights_now(folder: Path) -> str:
    with suppress(OSError, PostgradError):
        return weights_digest(folder)
    return ""


def _training_sets(
    path: Sequence[Experiment], goal: Goal, benchmarks: Mapping[str, Benchmark], books: _Books
) -> Iterator[TrainingSet]:
    """What each training read, and what it had to be searched for."""
    datasets = books.desk.journal.all(DatasetRecord)
    held_out = [BenchmarkGoal.model_validate(plain).id for plain in books.desk.held_out.get("benchmarks", ())]
    texts = [text for benchmark in benchmarks.values() for text in texts_of(benchmark)]
    all_known = len(benchmarks) == len(goal.benchmark)
    for record in (datasets[name] for name in dict.fromkeys(each.dataset for each in path) if name in datasets):
        yield TrainingSet(
            record=record,
            copies=tuple(_copies(record, path, books)),
            items=items_digest(texts) if all_known else "",
            held_out=bool(held_out) and {entry.id for entry in goal.benchmark} <= set(held_out),
            kept_apart=bool(held_out) and held_out[0] in record.contamination,
        )


def _copies(record: DatasetRecord, path: Sequence[Experiment], books: _Books) -> Iterator[Kept]:
    """A data set where it was written, as its trainings were given it, and as it lay beside them."""
    yield Kept("the file", record.digest, _digest(Path(record.path)))
    for experiment in (each for each in path if each.dataset == record.id and each.jobs):
        spec = books.specs.get(experiment.jobs[-1])
        if spec is not None:
            yield Kept(f"what {experiment.id} was given", record.digest, spec.files.get(DATA, ""))
        read = books.desk.paths.job(experiment.jobs[-1]) / DATA
        if read.parent.is_dir():
            yield Kept(f"what {experiment.id} read", record.digest, _digest(read))


def _programs(
    path: Sequence[Experiment], merge: Job | None, measured: Sequence[Measured], books: _Books
) -> Iterator[Program]:
    """The scripts that trained, merged and asked; the rows that one wrote are searched themselves."""
    keys = [experiment.jobs[-1] for experiment in path if experiment.jobs] + ([merge.key] if merge else [])
    for spec in [*(books.specs[key] for key in keys if key in books.specs), *(entry.spec for entry in measured)]:
        if spec is not None:
            yield from _programs_in(spec, books.desk)


def _programs_in(spec: JobSpec, desk: Desk) -> Iterator[Program]:
    folders = {methods.SCRIPTS, training.SCRIPT.parent, delivery.SCRIPT.parent}
    asks = shipped_programs()
    for name, digest in spec.files.items():
        if name.endswith(".py"):
            stored = desk.paths.stored(digest)
            yield Program(
                title=spec.title,
                name=name,
                text=stored.read_bytes()[:LARGEST].decode(errors="replace") if stored.is_file() else "",
                shipped=digest in {*asks.get(name, ()), *(_digest(folder / name) for folder in folders)},
                shielded=spec.sandbox == "auto",
            )


def _digest(file: Path) -> str:
    """sha256 of a file; empty where there is none."""
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
