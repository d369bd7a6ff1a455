"""Skill apart from format: scores by family of questions, and by whether a family occurs among the selection items."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from postgrad.evidence import read_lines
from shared_memory.records import EvalResult


@dataclass(frozen=True)
class Share:
    """A model's score on some families. `stderr`, `answered` and `given_answered` are None where the item records are gone."""

    score: float
    n: int
    stderr: float | None = None
    answered: float | None = None
    given_answered: float | None = None
    """Accuracy on the answered items; None too where none was answered."""


def unseen_families(report: Iterable[EvalResult], selection: Iterable[EvalResult]) -> frozenset[str]:
    """Families that occur only among the report items."""
    seen = {name for result in selection for name in result.categories}
    return frozenset(name for result in report for name in result.categories if name not in seen)


def share_of(result: EvalResult, families: frozenset[str]) -> Share | None:
    """The score of a result on the items of some families; None where it has none of them."""
    chosen = {name: entry for name, entry in result.categories.items() if name in families}
    n = sum(entry.n for entry in chosen.values())
    if not n:
        return None
    score = sum(entry.score * entry.n for entry in chosen.values()) / n
    return _measured(result, families) or Share(score=score, n=n)


def _measured(result: EvalResult, families: frozenset[str]) -> Share | None:
    """The same from the item records, with its standard error; None where they cannot be read."""
    rows = [
        row
        for row in read_lines(Path(result.items))
        if row.get("part") == result.part and row.get("category") in families and "score" in row and "id" in row
    ]
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        scores[str(row["id"])].append(float(row["score"]))
    if not scores:
        return None
    means = [sum(values) / len(values) for values in scores.values()]
    answered = [float(row["score"]) for row in rows if row.get("answered")]
    return Share(
        score=sum(means) / len(means),
        n=len(means),
        stderr=standard_error(means),
        answered=len(answered) / len(rows),
        given_answered=sum(answered) / len(answered) if answered else None,
    )


def standard_error(values: list[float]) -> float | None:
    """Of the mean of independent values: s / √n [Miller, arXiv 2411.00640]; None below two."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
