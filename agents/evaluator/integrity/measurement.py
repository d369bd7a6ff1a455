"""How the scores of a certificate were measured: by whose code, asking what, and whether they come out again."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from agents.evaluator import evaluation, scored
from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.integrity.facts import Facts, Found, Measured
from agents.evaluator.scoring.marking import mark, scoring_digest
from shared_memory.errors import PostgradError
from shared_memory.records import Part

SAME = 1e-9
"""Two means of the same scores may differ by so much, for they were summed in another order."""
NOT_MARKED_AGAIN = ("code",)
"""Metrics whose scores take programs to run; like those of a judge they are taken as they were filed."""
_FOLDER = Path(__file__).parents[1]


def evaluator(facts: Facts) -> Found:
    """Whether both models were asked the same, in the same way, by the evaluator's own code."""
    faults: dict[str, None] = {}
    doubts = {f"{name} is not what this version of postgrad was released with": None for name in edited_since_release()}
    shipped = shipped_programs()
    for name in dict.fromkeys(entry.result.benchmark for entry in facts.measured):
        entries = [entry for entry in facts.measured if entry.result.benchmark == name]
        if len({entry.result.settings_digest for entry in entries}) > 1:
            faults[f"{name} was measured in several ways: settings, template or scoring code differ"] = None
        if len({(entry.result.seed, str(entry.result.versions)) for entry in entries}) > 1:
            doubts[f"{name} was measured with several seeds or versions"] = None
        for entry in entries:
            for told, is_fault in _about(entry, facts.benchmarks.get(name), entries, shipped):
                (faults if is_fault else doubts)[told] = None
    settings = len({entry.result.settings_digest for entry in facts.measured})
    told = f"{len(facts.measured)} scores, measured in {'one way' if settings == 1 else f'{settings} ways'}"
    return told, list(faults), list(doubts)


def _about(
    entry: Measured, benchmark: Benchmark | None, entries: Sequence[Measured], shipped: Mapping[str, set[str]]
) -> Iterator[tuple[str, bool]]:
    """What is odd about how one score was measured, and whether that is a violation.

    Another script that scored both models alike is what a person chose at the gate; where it scored only one of them,
    the two cannot be compared. The same holds for the code that scores here.
    """
    result, spec = entry.result, entry.spec
    if spec is None:
        yield f"the job that measured {result.id} is not on record", False
        return
    scripts = {other.spec.files[other.spec.script] for other in entries if other.spec}
    odd = [name for name, digest in spec.files.items() if name.endswith(".py") and digest not in shipped.get(name, ())]
    if odd:
        yield f"{result.id} was measured by another {', '.join(odd)} than the one that is shipped", len(scripts) > 1
    if benchmark is None:
        return
    as_now = evaluation.settings_digest(benchmark, spec, result.judge) == result.settings_digest
    if not as_now:
        alike = len({other.result.settings_digest for other in entries}) == 1
        yield f"what scored {result.id} is not what is here now: benchmark, settings or scoring code", not alike
    if benchmark.is_written and evaluation.PROMPTS in spec.files and Path(result.items).is_file():
        # The records are of all that the job was asked, of which a run may have taken over one part.
        parts = {row["part"] for row in scored.read_items(Path(result.items))}
        rows = b"".join(evaluation.prompt_rows(benchmark, [part for part in Part if part in parts]))
        if hashlib.sha256(rows).hexdigest() != spec.files[evaluation.PROMPTS]:
            yield f"{result.id} was not asked what the benchmark asks", as_now and not odd


def scores(facts: Facts) -> Found:
    """Whether the item records are those that were filed, give the scores, and come out of the answers again."""
    faults: list[str] = []
    doubts: list[str] = []
    again = 0
    for entry in facts.measured:
        result, benchmark = entry.result, facts.benchmarks.get(entry.result.benchmark)
        path = Path(result.items)
        if not path.is_file():
            doubts.append(f"the item records of {result.id} are gone")
        elif result.items_digest and hashlib.sha256(path.read_bytes()).hexdigest() != result.items_digest:
            faults.append(f"the item records of {result.id} have changed since they were scored")
        elif benchmark is not None:
            try:
                if not _gives_its_score(entry, benchmark):
                    faults.append(f"the item records of {result.id} do not give its score")
                differ = _marked_again(entry, benchmark)
            except (OSError, ValueError, KeyError, TypeError, PostgradError) as error:
                doubts.append(f"{result.id} could not be scored again ({str(error).splitlines()[0]})")
                continue
            again += differ is not None
            if differ:
                faults.append(f"{differ} answers of {result.id} get another score now than the one that was filed")
    told = f"{len(facts.measured)} scores, from their item records; {again} of them from the stored answers, once more"
    return told, faults, doubts


def _gives_its_score(entry: Measured, benchmark: Benchmark) -> bool:
    """Whether the mean over the items is the score; that of rubrics is not below 0 (see `scored.collect`)."""
    values = scored.item_scores(entry.result, benchmark).values()
    mean = sum(values) / len(values) if values else float("nan")
    return abs(max(0.0, mean) - entry.result.score) <= SAME


def _marked_again(entry: Measured, benchmark: Benchmark) -> int | None:
    """Answers that get another score now; None where they are not scored again."""
    judged = benchmark.is_judged or benchmark.metric in NOT_MARKED_AGAIN
    if entry.job is None or judged or not benchmark.is_written or benchmark.engine != "inspect":
        return None
    rows = [row for row in scored.read_items(Path(entry.result.items)) if row["part"] == entry.result.part]
    filed = _by_answer(rows)
    asked = {name for name, _ in filed}
    answers = [answer for answer in scored.read_answers(entry.job) if answer.id in asked]
    now = _by_answer(mark(benchmark, answers))
    return sum(now.get(key) != score for key, score in filed.items())


def _by_answer(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], float]:
    return {(str(row["id"]), int(row["epoch"])): float(row["score"]) for row in rows}


def shipped_programs() -> dict[str, set[str]]:
    """Name → sha256 of every program of the evaluator, its job scripts among them."""
    folders = {_FOLDER, *(script.parent for script in evaluation.SCRIPTS.values())}
    found: dict[str, set[str]] = {}
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        found.setdefault(file.name, set()).add(hashlib.sha256(file.read_bytes()).hexdigest())
    return found


def edited_since_release() -> list[str]:
    """Files of the evaluator that are not what the installed wheel says; a checkout says nothing."""
    try:
        files = distribution("postgrad").files or []
    except PackageNotFoundError:
        return []
    edited = []
    for file in files:
        if file.parts[:2] == ("agents", "evaluator") and file.hash and file.hash.mode == "sha256":
            here = Path(str(file.locate()))
            digest = hashlib.sha256(here.read_bytes()).digest() if here.is_file() else b""
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                edited.append(str(file))
    return edited


def digests_of(measured: Sequence[Measured]) -> dict[str, str]:
    """What asked and scored: the code that scores here, and every script, template and list of prompts of the jobs."""
    digests = {"scoring": scoring_digest()}
    for entry in measured:
        for name, digest in (entry.spec.files if entry.spec else {}).items():
            whose = "" if name.endswith(".py") else f" of {entry.result.experiment}, {entry.result.benchmark}"
            digests[f"{name}{whose}"] = digest
    return digests
