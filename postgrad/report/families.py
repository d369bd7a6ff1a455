"""Skill apart from format: scores by family of questions, and by whether a family occurs among the selection items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agents.evaluator.scoring.tally import tally
from postgrad.answer import BASELINE
from postgrad.report.blocks import Block, Grid, Paragraph, Section
from postgrad.report.evidence import Evidence, read_lines
from postgrad.units import NONE, percent, plus_minus, scored, signed
from shared_memory.records import EvalResult, Part

FEW = 50
"""Items below which a difference takes 12 points to be worth a look, as against 3 above 150 [field practice]."""


@dataclass(frozen=True)
class Share:
    """A model's score on some families; what only the item records tell is None where those are gone."""

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
    """The score of a result on the items of some families, in its unit; None where it has none of them."""
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
    if not rows:
        return None
    found = tally(rows)
    return Share(
        score=found.score,
        n=found.n,
        stderr=found.stderr if found.n > 1 else None,
        answered=found.answered,
        given_answered=found.accuracy_given_answered if found.answered else None,
    )


def families(evidence: Evidence) -> Section | None:
    """Skill apart from format, on the report items; None where those were not scored."""
    blocks: list[Block] = []
    for name in evidence.benchmarks:
        models = list(dict.fromkeys((BASELINE, evidence.champion or BASELINE)))
        report = {model: found for model in models if (found := evidence.result(model, name, Part.REPORT))}
        selection = [found for model in models if (found := evidence.result(model, name, Part.SELECTION))]
        if not report or not selection or not any(name for result in report.values() for name in result.categories):
            continue
        unseen = unseen_families(report.values(), selection)
        blocks += [*_seen_and_unseen(name, report, unseen), _by_family(name, report, unseen)]
    if not blocks:
        return None
    return Section("families", "Skill apart from format", tuple(blocks))


def _seen_and_unseen(name: str, report: dict[str, EvalResult], unseen: frozenset[str]) -> list[Block]:
    if not unseen:
        return [Paragraph(f"Every family of questions of {name} occurs among the selection items too.")]
    everything = frozenset(family for result in report.values() for family in result.categories)
    rows = []
    for label, chosen in (("seen families", everything - unseen), ("unseen families", unseen)):
        for model, result in report.items():
            share = share_of(result, chosen)
            if share is not None:
                rows.append((label, model, *_share_cells(share, result.unit)))
    names = ", ".join(sorted(unseen))
    return [
        Paragraph(
            f"Some families of questions occur only among the report items ({names}): "
            "they had no say in choosing the champion. "
            "A gain on the seen families may be the form of the answer, or formulas met in training; "
            "a gain on the unseen ones tells how far it carries over."
        ),
        Grid(
            f"{name}, report items: families that also occur in selection, and families that do not",
            ("families", "model", "score", "n", "answered", "given answered"),
            tuple(rows),
            (2, 3, 4, 5),
        ),
    ]


def _share_cells(share: Share, unit: str) -> tuple[str, str, str, str]:
    score = scored(share.score, unit) if share.stderr is None else plus_minus(share.score, share.stderr, unit)
    rates = [NONE if rate is None else percent(rate) for rate in (share.answered, share.given_answered)]
    return score, str(share.n), rates[0], rates[1]


def _by_family(name: str, report: dict[str, EvalResult], unseen: frozenset[str]) -> Grid:
    """Each family's score by model; of few items it is marked, for it shows next to nothing."""
    unit, results = next(iter(report.values())).unit, list(report.values())
    rows = []
    families = {family for result in results for family in result.categories}
    for family in sorted(families, key=lambda family: (family in unseen, family)):
        known = [entry for result in results if (entry := result.categories.get(family))]
        cells = [
            plus_minus(entry.score, entry.stderr, unit) if entry.stderr else scored(entry.score, unit)
            for entry in known
        ]
        change = [signed(known[1].score - known[0].score, unit)] if len(known) == 2 else [NONE] * (len(results) - 1)
        few = " few" if known[0].n < FEW else ""
        where = "unseen" if family in unseen else "seen"
        rows.append((family, where, f"{known[0].n}{few}", *cells, *[NONE] * (len(results) - len(known)), *change))
    difference = ["nats" if unit == "nats" else "points"] * (len(results) - 1)
    head = ("family", "in selection", "n", *report, *difference)
    caption = f"{name}, report items, by family (few: under {FEW} items, where only a large difference means anything)"
    return Grid(caption, head, tuple(rows), tuple(range(2, len(head))))
