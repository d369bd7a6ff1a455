"""Compares models on the items that all were scored on: runs, their experiments, or files of item records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postgrad.answer import interval_of
from postgrad.scored_models import ScoredModel, comparable, scored_models
from postgrad.units import difference, scored
from shared_memory.errors import BadInput
from shared_memory.records import Part
from shared_memory.settings import Settings, load_settings

if TYPE_CHECKING:
    from agents.evaluator.scoring.tally import Row
    from agents.evaluator.statistics import Comparison

TOO_COARSE = 0.1
"""A minimum detectable effect above which items are called too few: the three best agents on GPQA with one base model
lie within 4 points [PostTrainBench, arXiv 2603.08640]."""


def compare(a: str | Path, b: str | Path, *others: str | Path, settings: Settings | None = None) -> dict[str, Any]:
    """How b (and each further model) differs from a, paired on the items that both have; the JSON of `postgrad compare
    --json`.

    Each is a run (an id, its beginning, or `last`: its champion, else its base model), `RUN/EXPERIMENT`, or an
    items.jsonl file of an evaluation.

    `{a, b, benchmark, n, unit, higher_is_better, score_a, score_b, delta (b minus a), ci_low, ci_high (95 %, paired
    bootstrap), p_value, test, discordant, clusters, mde, looked_at, p_corrected, shown, models [{model, score, stderr,
    n, epochs, completed, truncated, unparsed, answered, accuracy_given_answered, clusters, within}], categories
    [{category, n, score_a, score_b, delta, ci_low, ci_high}], sentence, others [the same for each further model]}`

    `mde` is the smallest true difference that these items show in 80 % of cases; `p_corrected` is `p_value` after
    Holm's correction for the `looked_at` candidates; `shown` says whether it and the interval leave a difference.
    `completed` is the score of the answers that ended by themselves, `truncated` the share that met the token limit,
    `unparsed` the share that ended and hold no answer in the asked form; null where a file does not tell. `within` is
    the share of an answer's variance that is chance within an item, which asking more often would make less.

    Where one of two is an experiment, only report items count if there are any: the selection items chose it, and
    flatter it. Raises BadInput where two cannot be compared, with the reason.
    """
    from agents.evaluator.statistics import holm

    settings = settings or load_settings()
    first = scored_models(str(a), settings)
    pairs = [_pair(*comparable(first, scored_models(str(other), settings))) for other in (b, *others)]
    family = max(len(pairs), *(pair.looked_at for pair in pairs))
    corrected = holm([pair.found.p_value for pair in pairs], family)
    told = [_told(pair, family, p) for pair, p in zip(pairs, corrected, strict=True)]
    return {**told[0], "others": told[1:]}


@dataclass(frozen=True)
class _Pair:
    before: ScoredModel
    after: ScoredModel
    rows: tuple[Sequence[Row], Sequence[Row]]
    """Item records of the compared items."""
    found: Comparison
    looked_at: int
    doubts: tuple[str, ...]


def _pair(before: ScoredModel, after: ScoredModel) -> _Pair:
    from agents.evaluator.scoring.tally import clusters_of, item_means, item_scores
    from agents.evaluator.statistics import paired_comparison

    both = before.items & after.items
    if not both:
        raise BadInput(f"{before.label} and {after.label} have no item in common; score both on the same benchmark")
    chosen = before.chosen or after.chosen
    report = both & (before.report | after.report) if chosen else frozenset()
    items = report or both
    either = before.report | after.report if report else before.items | after.items
    rows = (before.rows_of(items), after.rows_of(items))
    found = paired_comparison(item_means(rows[0]), item_means(rows[1]), clusters_of([*rows[0], *rows[1]]))
    doubts = []
    if chosen and not report:
        doubts.append("these items chose an experiment, and flatter it")
    if not (before.settings_digest and after.settings_digest):
        doubts.append("nothing tells whether both were measured in the same way")
    asked = [max(map(len, item_scores(side).values())) for side in rows]
    if asked[0] != asked[1]:
        doubts.append(f"{before.label} was asked {_times(asked[0])} an item, {after.label} {_times(asked[1])}")
    if len(items) < len(either):
        doubts.append(f"only {len(items)} of {len(either)} items were scored on both")
    part = Part.REPORT if report else Part.SELECTION
    looked_at = max(side.looked_at.get(part, 0) for side in (before, after)) if chosen else 0
    return _Pair(before, after, rows, found, looked_at, tuple(doubts))


def _told(pair: _Pair, looked_at: int, p_corrected: float) -> dict[str, Any]:
    from agents.evaluator.scoring.tally import item_means

    known = pair.before if pair.before.benchmark else pair.after
    means = [item_means(rows) for rows in pair.rows]
    found = pair.found
    result = {
        "a": pair.before.label,
        "b": pair.after.label,
        "benchmark": known.benchmark,
        "unit": known.unit,
        "higher_is_better": known.higher_is_better,
        "score_a": sum(means[0].values()) / found.n,
        "score_b": sum(means[1].values()) / found.n,
        **found.plain(),
        "looked_at": looked_at,
        "p_corrected": p_corrected,
        "shown": not found.ci_low <= 0 <= found.ci_high and p_corrected < 0.05,
        "models": [_figures(side, rows) for side, rows in zip((pair.before, pair.after), pair.rows, strict=True)],
        "categories": _categories(pair.rows),
    }
    return {**result, "sentence": _sentence(result, pair.doubts)}


def _figures(model: ScoredModel, rows: Sequence[Row]) -> dict[str, Any]:
    """A model's scores on the compared items; what its records do not tell is None."""
    from agents.evaluator.scoring.tally import item_scores, tally
    from agents.evaluator.statistics import chance_within

    silent = not all("answered" in row and "truncated" in row for row in rows)
    figures = tally(rows).plain()
    unknown = ("completed", "truncated", "unparsed", "answered", "accuracy_given_answered") if silent else ()
    return {"model": model.label, **figures, **dict.fromkeys(unknown), "within": chance_within(item_scores(rows))}


def _categories(rows: tuple[Sequence[Row], Sequence[Row]]) -> list[dict[str, Any]]:
    """The difference by category; empty where there are fewer than two."""
    from agents.evaluator.scoring.tally import by_category, clusters_of, item_means
    from agents.evaluator.statistics import paired_comparison

    before, after = by_category(rows[0]), item_means(rows[1])
    table = []
    for name, group in before.items() if len(before) > 1 else ():
        a = item_means(group)
        b = {item: after[item] for item in a}
        found = paired_comparison(a, b, clusters_of(group))
        scores = {"score_a": sum(a.values()) / len(a), "score_b": sum(b.values()) / len(b)}
        ends = found.model_dump(include={"n", "delta", "ci_low", "ci_high"})
        table.append({"category": name, **scores, **ends})
    return table


def _sentence(result: Mapping[str, Any], doubts: Sequence[str]) -> str:
    """The comparison in one honest sentence: better or worse only where interval and corrected p-value show it."""
    a, b, unit = result["a"], result["b"], result["unit"]
    on = f"on {result['n']} items" + (f" of {result['benchmark']}" if result["benchmark"] else "")
    if result["shown"]:
        said = f"{b} is {'better' if (result['delta'] > 0) == result['higher_is_better'] else 'worse'} than {a} {on}"
    else:
        said = f"No difference between {b} and {a} is shown {on}"
    scores = f"{scored(result['score_b'], unit)} against {scored(result['score_a'], unit)}"
    told = f"{said}: {scores}, {difference(result['delta'], unit)} ({interval_of(result)}{_correction(result)})"
    return "; ".join([told, *([] if result["shown"] else _unseen(result)), *doubts]) + "."


def _correction(result: Mapping[str, Any]) -> str:
    looked_at, p = result["looked_at"], result["p_corrected"]
    return f", {p:.3f} corrected for {looked_at} candidates looked at" if looked_at > 1 else ""


def _unseen(result: Mapping[str, Any]) -> list[str]:
    """What these items could have shown, where they have shown nothing."""
    mde, unit = result["mde"], result["unit"]
    if mde is None:
        return []
    if unit == "fraction" and mde >= 1:
        return ["these are too few items to show anything"]
    few = "these are too few items to show much: " if unit == "fraction" and mde > TOO_COARSE else ""
    return [f"{few}a true difference below {difference(mde, unit)[1:]} may well have gone unseen"]


def _times(asked: int) -> str:
    return "once" if asked == 1 else f"{asked} times"
