"""What the item records of a model come to: its score with an error, and what was cut off or held no answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agents.evaluator.statistics import clusters_in, summarise
from shared_memory.records import Record

Row = Mapping[str, Any]
"""An item record: see `EvalResult.items`."""


class Tally(Record):
    """Scores are means over items, an item that was asked several times counting once; shares are of all answers."""

    score: float
    stderr: float
    n: int
    clusters: int
    """As of an `EvalResult`, like the rest."""
    epochs: int
    """The most answers that an item has."""
    answered: float
    accuracy_given_answered: float
    truncated: float
    completed: float | None
    unparsed: float


def tally(rows: Sequence[Row]) -> Tally:
    """The tally of at least one item record. What does not say otherwise ended by itself, and holds an answer."""
    means, clusters = item_means(rows), clusters_of(rows)
    names = [clusters[item] for item in means]
    score, stderr, n = summarise(list(means.values()), names)
    answered = [float(row["score"]) for row in rows if row.get("answered", True)]
    ended = [float(row["score"]) for row in rows if not row.get("truncated")]
    return Tally(
        score=score,
        stderr=stderr,
        n=n,
        clusters=clusters_in(names),
        epochs=max(map(len, item_scores(rows).values())),
        answered=len(answered) / len(rows),
        accuracy_given_answered=sum(answered) / len(answered) if answered else 0.0,
        truncated=sum(bool(row.get("truncated")) for row in rows) / len(rows),
        completed=sum(ended) / len(ended) if ended else None,
        unparsed=sum(not (row.get("answered", True) or row.get("truncated")) for row in rows) / len(rows),
    )


def by_category(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The records of each category, in the order of their names."""
    categories: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        categories[str(row.get("category") or "")].append(row)
    return dict(sorted(categories.items()))


def item_scores(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Item → the score of every answer."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        scores[str(row["id"])].append(float(row["score"]))
    return dict(scores)


def item_means(rows: Iterable[Row]) -> dict[str, float]:
    """Item → its score, the mean where it was asked several times."""
    return {item: sum(scores) / len(scores) for item, scores in item_scores(rows).items()}


def clusters_of(rows: Iterable[Row]) -> dict[str, str]:
    """Item → its cluster; empty where it stands alone. A record that tells of none does not hide what another tells."""
    clusters: dict[str, str] = {}
    for row in rows:
        clusters[str(row["id"])] = clusters.get(str(row["id"])) or str(row.get("cluster") or "")
    return clusters
