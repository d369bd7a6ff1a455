"""Reads results of PostTrainBench, the harness's and our own, and puts their weighted average into the leaderboard."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agents.evaluator import posttrainbench as ptb
from postgrad.posttrainbench.solve import TOLD
from shared_memory.errors import BadInput
from shared_memory.records import Record

VERSIONS = ("v1", "v1.2")
METRICS = "metrics.json"
JUDGEMENTS = {
    "contamination_judgement.txt": "contamination detected",
    "disallowed_model_judgement.txt": "disallowed use detected",
}
"""File of the harness's judge → what it says of a run that broke a rule."""
OURS = "postgrad"

Counted = Literal["measured", "missing", "flagged"]


class Found(Record):
    """What one result says."""

    benchmark: str
    model: str
    score: float | None
    """None where there is none to be read."""
    stderr: float | None = None
    flagged: str = ""
    """Why it does not count."""
    judged: bool = False
    """Whether the harness's judge has looked at the run."""
    source: str


class Cell(Record):
    """A benchmark with a model: what enters the average."""

    benchmark: str
    model: str
    score: float
    """The mean of its results; the base model's where none counts."""
    stderr: float = 0.0
    counted: Counted
    why: str = ""
    sources: tuple[str, ...] = ()


class Line(Record):
    """A line of the leaderboard with its rank; ours, or as published."""

    rank: int | None = None
    name: str
    average: float
    spread: float | None = None
    """As published; of ours one standard error, of the items alone."""
    scores: dict[str, float] = Field(default_factory=dict)
    source: str
    ours: bool = False


def results(folders: Sequence[Path], *, baseline: Path | None = None, name: str = OURS) -> dict[str, Any]:
    """The averages over four models and all benchmarks of a version, as the benchmark computes them:

    `{cells [{benchmark, model, score, stderr, counted, why, sources}], measured, of, averages {version: {average,
    stderr, leaderboard [{rank, name, average, spread, scores, source, ours}]}}}`

    A cell that is missing or flagged has the base model's score [scripts/aggregate_final.py]: of a `baseline` folder,
    else as published. Each average is over all cells of its version, however few were measured. Raises BadInput for
    a folder without results.
    """
    found = [result for folder in folders for result in _in_folder(folder)]
    if not found:
        raise BadInput(
            f"{', '.join(map(str, folders))}: no results in it; give a results folder of the harness, or a folder that "
            "`postgrad posttrainbench solve` worked in"
        )
    measured = {(one.benchmark, one.model): one.score for one in (_in_folder(baseline) if baseline else ())}
    cells = [
        _cell(benchmark, model, found, measured.get((benchmark, model)))
        for benchmark in ptb.known_tasks()
        for model in ptb.MODELS
    ]
    return {
        "cells": [cell.plain() for cell in cells],
        "measured": sum(cell.counted == "measured" for cell in cells),
        "of": len(cells),
        "averages": {version: _average(version, cells, name) for version in VERSIONS},
    }


def _in_folder(folder: Path) -> Iterator[Found]:
    """All results under a folder; only the newest run of the harness counts for a cell [aggregate_methods.py]."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; give one with results")
    newest: dict[tuple[Path, str, str], tuple[int, Path]] = {}
    for run in {path.parent for pattern in (METRICS, *JUDGEMENTS, "time_taken.txt") for path in folder.rglob(pattern)}:
        benchmark, model, number = _name_of(run)
        if benchmark not in ptb.known_tasks():
            continue
        cell = (run.parent, benchmark, model)
        newest[cell] = max(newest.get(cell, (-1, run)), (number, run))
    for (_, benchmark, model), (_, run) in sorted(newest.items()):
        yield _of_the_harness(run, benchmark, model)
    for told in sorted(folder.rglob(TOLD)):
        yield _of_ours(told)


def _name_of(run: Path) -> tuple[str, str, int]:
    """Benchmark, model and number of `gpqamain_Qwen_Qwen3-4B-Base_123` [run_task.sh]; empty for any other folder."""
    parts = run.name.split("_")
    if len(parts) != 4 or not parts[3].isdecimal():
        return "", "", 0
    return parts[0], parts[2], int(parts[3])


def _of_the_harness(run: Path, benchmark: str, model: str) -> Found:
    said = {file: _text(run / file) for file in JUDGEMENTS}
    flagged = ", ".join(words for file, words in JUDGEMENTS.items() if said[file] == words)
    try:
        metrics = ptb.read_metrics(run / METRICS)
    except BadInput:
        metrics = ptb.Official()
    return Found(
        benchmark=benchmark,
        model=model,
        score=metrics.score,
        stderr=metrics.stderr,
        flagged=flagged,
        judged=all(said.values()),
        source=str(run),
    )


def _of_ours(path: Path) -> Found:
    """What `solve` has told. Raises BadInput for a file that is not its."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        official = ptb.Official.model_validate(told["official"])
        changed = ", ".join(told["tampered"])
        return Found(
            benchmark=told["benchmark"],
            model=str(told["model"]).rstrip("/").rpartition("/")[2],
            score=official.score,
            stderr=official.stderr,
            flagged=f"{changed} was changed" if changed else "",
            source=str(path),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); run `postgrad posttrainbench solve` again") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _cell(benchmark: str, model: str, found: Iterable[Found], base: float | None) -> Cell:
    of_it = [one for one in found if (one.benchmark, one.model) == (benchmark, model)]
    counting = [one for one in of_it if one.score is not None and not one.flagged]
    if not counting:
        flagged = next((one.flagged for one in of_it if one.flagged), "")
        return Cell(
            benchmark=benchmark,
            model=model,
            score=ptb.base_score(benchmark, model) if base is None else base,
            counted="flagged" if flagged else "missing",
            why=flagged or ("no score" if of_it else "no run"),
            sources=tuple(one.source for one in of_it),
        )
    return Cell(
        benchmark=benchmark,
        model=model,
        score=statistics.fmean(one.score for one in counting if one.score is not None),
        stderr=math.sqrt(sum((one.stderr or 0.0) ** 2 for one in counting)) / len(counting),
        counted="measured",
        why="" if all(one.judged for one in counting) else "not looked at by the harness's judge",
        sources=tuple(one.source for one in counting),
    )


def _average(version: str, cells: Sequence[Cell], name: str) -> dict[str, Any]:
    """Σ weight × mean over the models, as compute_single_metrics.py has it, among the published lines."""
    weights = ptb.weights(version)
    by_benchmark = defaultdict(list)
    for cell in cells:
        by_benchmark[cell.benchmark].append(cell)
    scores = {key: statistics.fmean(cell.score for cell in by_benchmark[key]) for key in weights}
    variance = sum(
        (weight / len(by_benchmark[key])) ** 2 * sum(cell.stderr**2 for cell in by_benchmark[key])
        for key, weight in weights.items()
    )
    average, stderr = sum(weights[key] * score for key, score in scores.items()), math.sqrt(variance)
    counted = sum(cell.counted == "measured" for key in weights for cell in by_benchmark[key])
    source = f"ours, {counted} of {len(weights) * len(ptb.MODELS)} cells measured"
    ours = Line(name=name, average=average, spread=stderr, scores=scores, source=source, ours=True)
    return {
        "average": average,
        "stderr": stderr,
        "leaderboard": [line.plain() for line in _with_ours(version, ours)],
    }


def _with_ours(version: str, ours: Line) -> Iterator[Line]:
    """The published lines and ours, best first; no rank for base and instruct models, nor where a list is in part."""
    benchmarks = tuple(ptb.weights("v1"))
    published = [
        (
            row.ranked,
            Line(
                name=row.name,
                average=row.average,
                spread=row.spread,
                scores=dict(zip(benchmarks, row.scores, strict=True)) if row.scores else {},
                source=row.source,
            ),
        )
        for row in ptb.leaderboard(version)
    ]
    rank, is_ranking = 0, any(ranked for ranked, _ in published)
    for ranked, line in sorted([*published, (is_ranking, ours)], key=lambda entry: -entry[1].average):
        rank += ranked
        yield line.model_copy(update={"rank": rank if ranked else None})
