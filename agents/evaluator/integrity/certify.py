"""The certificate of a result: what was checked of it by code, and whether it may be believed.

`violated`: something is not what the claim says it is. `suspect`: something cannot be shown, or was done in another way
than by the code that is shipped. `clean`: neither. What is looked at comes as `Facts`, which the graph gathers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.integrity.answer_tables import tables
from agents.evaluator.integrity.facts import Facts, Found, TrainingSet
from agents.evaluator.integrity.lineage import Lineage
from agents.evaluator.integrity.measurement import evaluator, scores
from shared_memory.records import Part, Record

Verdict = Literal["clean", "suspect", "violated"]
ORDER: tuple[Verdict, ...] = ("clean", "suspect", "violated")
RULES = {"question", "overlap", "paraphrase"}
"""What a data set has to be searched by: word for word, in large part, and in other words."""


class Check(Record):
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    """In one line, for a reader."""
    reasons: tuple[str, ...] = ()
    """Why it is not clean."""


class Certificate(Record):
    """What a run's result stands on, as far as code can tell."""

    champion: str
    """The experiment it speaks of, or `baseline`."""
    checks: tuple[Check, ...]
    lineage: tuple[Lineage, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return max((check.verdict for check in self.checks), key=ORDER.index, default="clean")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not clean, the worst first."""
        worst_first = sorted(self.checks, key=lambda check: -ORDER.index(check.verdict))
        return tuple(f"{check.name}: {reason}" for check in worst_first for reason in check.reasons)

    def plain(self) -> dict[str, Any]:
        """As the run's records hold it: the verdict and its reasons first."""
        fields: dict[str, Any] = json.loads(self.model_dump_json())
        return {"verdict": self.verdict, "reasons": list(self.reasons), **fields}


def certify(facts: Facts) -> Certificate:
    """Look at everything; nothing that is missing or unreadable stops it."""
    made = []
    for name, look in CHECKS.items():
        found = look(facts)
        if found is not None:
            told, faults, doubts = found
            verdict: Verdict = "violated" if faults else "suspect" if doubts else "clean"
            made.append(Check(name=name, verdict=verdict, found=told, reasons=(*faults, *doubts)))
    return Certificate(champion=facts.champion, checks=tuple(made), lineage=tuple(facts.lineages))


def _lineage(facts: Facts) -> Found | None:
    """Whether the champion descends from the base that was asked for."""
    if not (facts.lineages or facts.unknown):
        return None
    faults = [f"{entry.model}: {fault}" for entry in facts.lineages for fault in entry.faults]
    doubts = [f"{entry.model}: {doubt}" for entry in facts.lineages for doubt in entry.doubts]
    return "; ".join(entry.found for entry in facts.lineages), faults, [*doubts, *facts.unknown]


def _weights(facts: Facts) -> Found:
    """Whether the base is what the run began with, and the champion what its jobs have left."""
    known = [kept for kept in facts.kept if kept.then]
    faults = [f"{kept.what} is not what it was" for kept in known if kept.now and kept.now != kept.then]
    doubts = [f"{kept.what} is gone" for kept in known if not kept.now]
    names = ", ".join(kept.what for kept in known if kept.now == kept.then)
    return f"unchanged: {names or 'nothing that is on record'}", faults, doubts


def _training_data(facts: Facts) -> Found | None:
    """Whether every data set was searched for the items of the benchmarks, and trained on as it was then."""
    if not facts.training_sets:
        return None
    told: list[str] = []
    faults: list[str] = []
    doubts: list[str] = []
    for entry in facts.training_sets:
        changed = [copy for copy in entry.copies if copy.now and copy.now != copy.then]
        faults += [f"{copy.what} is not {entry.record.id} as it was searched" for copy in changed]
        doubts += [f"{copy.what} is gone" for copy in entry.copies if not copy.now]
        for into, found in zip((told, faults, doubts), _search_of(entry), strict=True):
            into += found
    return "; ".join(told), faults, doubts


def _search_of(entry: TrainingSet) -> tuple[list[str], list[str], list[str]]:
    record, evidence = entry.record, entry.record.evidence
    if entry.held_out:
        told = f"{record.id}: {record.rows:,} rows; those to measure on were held out with their near-duplicates"
        return [told], [] if entry.kept_apart else [f"{record.id} may hold rows that the run is measured on"], []
    if evidence is None or entry.items not in ("", evidence.items_digest):
        return [], [f"{record.id} was not searched for the items that the benchmarks hold"], []
    missing = ", ".join(sorted(RULES - set(evidence.rules)))
    told = f"{record.id}: {evidence.rows_checked:,} rows searched by {', '.join(evidence.rules)}, "
    told += f"{evidence.rows_flagged:,} left out"
    return [told], [], [f"{record.id} was not searched by {missing}"] if missing else []


def _benchmark(facts: Facts) -> Found:
    """Whether the items were there before anything was measured, each in its part, and no question in both."""
    faults = [
        f"{name} is not what it was before the base model was scored: items or their parts have changed"
        for name, benchmark in facts.benchmarks.items()
        if facts.promised.get(name) != benchmark.digest
    ]
    doubts = [f"{name} cannot be read any more ({why})" for name, why in facts.lost.items()]
    told = []
    for name, benchmark in facts.benchmarks.items():
        sizes = " and ".join(f"{sum(item.part is part for item in benchmark.items)} {part.value}" for part in Part)
        since = "as before the first score" if facts.promised.get(name) == benchmark.digest else "changed since"
        told.append(f"{name}: {sizes} items, {since}")
        if twice := _in_both_parts(benchmark):
            doubts.append(f"{twice} questions of {name} are among the items that select and among those that report")
    return "; ".join(told), faults, doubts


def _in_both_parts(benchmark: Benchmark) -> int:
    """Questions that stand, choices included, in both parts under different ids."""
    texts: dict[Part, set[tuple[str, ...]]] = {part: set() for part in Part}
    for item in benchmark.items:
        texts[item.part].add((" ".join(item.question.casefold().split()), *sorted(item.choices), item.reference))
    return len(texts[Part.SELECTION] & texts[Part.REPORT])


def _answers(facts: Facts) -> Found:
    """Whether somebody wrote the answers down: in what was delivered, or in a script that is not ours."""
    benchmarks = list(facts.benchmarks.values())
    others = [program for program in facts.programs if not program.shipped]
    faults = [f"{name} in the delivered model holds {held}" for name, held in tables(facts.texts, benchmarks).items()]
    faults += [f"the delivered model has code that the base does not have ({name})" for name in facts.code]
    for program in others:
        held = tables({program.name: program.text}, benchmarks)
        faults += [f"{name} of “{program.title}” holds {items}" for name, items in held.items()]
    doubts = [
        f"{program.name} of “{program.title}” is not ours, and no sandbox kept it from reading anything"
        for program in others
        if not program.shielded
    ]
    scripts = f"{len(others)} script{'' if len(others) == 1 else 's'} of others"
    return f"{len(facts.texts)} files of the delivered model and {scripts} were searched for items", faults, doubts


def _rules(facts: Facts) -> Found:
    """Whether those wrote training rows who might."""
    hosted = [name for name, is_hosted in facts.teachers if is_hosted and not facts.hosted_teacher]
    wrote = ", ".join(name for name, _ in facts.teachers) or "no language model"
    allowed = "allowed" if facts.hosted_teacher else "forbidden"
    faults = [f"{name} is a hosted model and wrote training rows, which the goal forbids" for name in hosted]
    return f"{wrote} wrote training rows; hosted ones are {allowed}", faults, []


CHECKS: dict[str, Callable[[Facts], Found | None]] = {
    "lineage": _lineage,
    "weights": _weights,
    "benchmark": _benchmark,
    "training data": _training_data,
    "evaluator": evaluator,
    "scores": scores,
    "answers": _answers,
    "rules": _rules,
}
"""In the order in which they are told: what explains another comes before it."""
