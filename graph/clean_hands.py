"""No training job without a search of its data for every benchmark of the goal; the door to compute asks here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from agents.data_engineer.contamination.benchmark_texts import BenchmarkText
from agents.data_engineer.contamination.decontaminate import items_digest
from agents.evaluator.benchmarks.benchmark import Benchmark
from graph.briefing import benchmarks_of
from graph.context import Desk
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.records import DatasetRecord, JobSpec, Purpose

DATA = "data.jsonl"
"""What a training job calls its data."""
AGAIN = "start a new run, which checks it"


def texts_to_look_for(goal: Goal) -> list[BenchmarkText]:
    """What the items of the goal's own benchmarks say; of rows that were held out there is nothing to look for.

    Those share their form with the rows that stay, and perhaps a template; what they must not share is a cluster of
    near-duplicates, and their clusters were held out whole (see `held_out.drop_held_out`).
    """
    return [text for benchmark in benchmarks_of(goal).values() for text in texts_of(benchmark)]


def texts_of(benchmark: Benchmark) -> Iterator[BenchmarkText]:
    """What the items of one benchmark say, each with its right answer."""
    for item in benchmark.items:
        passage = getattr(item, "passage", "")
        yield BenchmarkText(benchmark.name, item.id, item.question, tuple(item.choices), item.reference, passage)


def fault_of_data(spec: JobSpec, goal: Goal, desk: Desk) -> str:
    """Why a training job's data may not be trained on, in one line with the next move; empty if they may.

    They have to be, byte for byte, a data set of this run's journal, and that one has to have been searched for the
    items that the goal's benchmarks hold now. `goal` is as it was asked for; rows held out are found in the journal.
    """
    if spec.purpose is not Purpose.TRAINING:
        return ""
    digest = spec.files.get(DATA, "")
    record = next((each for each in desk.journal.all(DatasetRecord).values() if each.digest == digest), None)
    if record is None:
        return f"its {DATA} is no data set that this run has made and checked; {AGAIN}"
    with desk.paths.stored(digest).open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
            return f"data set {record.id} has changed since it was checked; {AGAIN}"
    held_out = [BenchmarkGoal.model_validate(plain).id for plain in desk.held_out.get("benchmarks", ())]
    if held_out and {entry.id for entry in goal.benchmark} <= set(held_out):
        kept_apart = held_out[0] in record.contamination
        return "" if kept_apart else f"data set {record.id} may hold rows that the run is measured on; {AGAIN}"
    if unheld := next((entry.id for entry in goal.benchmark if entry.engine == "lighteval"), ""):
        return f"data cannot be searched for the items of {unheld}, which LightEval keeps to itself; leave it out"
    texts = texts_to_look_for(goal)
    if not texts:
        return ""
    if record.evidence is None or record.evidence.items_digest != items_digest(texts):
        names = [entry.id for entry in goal.benchmark]
        return f"data set {record.id} was not searched for the items of {', '.join(names)} as they are now; {AGAIN}"
    return ""
