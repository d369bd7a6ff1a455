"""Compares two models on the items that both were scored on: runs, their experiments, or files of item records."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postgrad.answer import BASELINE, interval_of
from postgrad.report.evidence import Evidence, gather, read_lines
from postgrad.units import difference, scored
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.records import EvalResult, Part
from shared_memory.settings import Settings, load_settings


@dataclass(frozen=True)
class Side:
    """One of the two: a model's item records on one benchmark."""

    label: str
    benchmark: str
    """Empty for a file that belongs to no run of this home."""
    settings_digest: str
    unit: str
    higher_is_better: bool
    scores: dict[str, float]
    """By item; the mean where an item was asked several times."""
    report: frozenset[str]
    """Items that chose nothing."""
    chosen: bool
    """Whether the model is an experiment, which the selection items have chosen."""


def compare(a: str | Path, b: str | Path, *, settings: Settings | None = None) -> dict[str, Any]:
    """How b differs from a, paired on the items that both have; the JSON of `postgrad compare --json`.

    a, b: a run (an id, its beginning, or `last`: its champion, else its base model), `RUN/EXPERIMENT`, or an
    items.jsonl file of an evaluation.

    `{a, b, benchmark, n, unit, higher_is_better, score_a, score_b, delta (b minus a), ci_low, ci_high (95 %, paired
    bootstrap), p_value, discordant, sentence}`. Where one of them is an experiment, only report items count if there
    are any: the selection items chose it, and flatter it.

    Raises BadInput where the two cannot be compared, with the reason.
    """
    from agents.evaluator.statistics import paired_comparison

    settings = settings or load_settings()
    before, after = _comparable(_sides(str(a), settings), _sides(str(b), settings))
    items = before.scores.keys() & after.scores.keys()
    if not items:
        raise BadInput(f"{before.label} and {after.label} have no item in common; score both on the same benchmark")
    on_report = items & (before.report | after.report)
    chosen = before.chosen or after.chosen
    if chosen and on_report:
        items = on_report
    pair = [{item: side.scores[item] for item in sorted(items)} for side in (before, after)]
    found = paired_comparison(*pair)
    known = before if before.benchmark else after
    result = {
        "a": before.label,
        "b": after.label,
        "benchmark": known.benchmark,
        "n": found.n,
        "unit": known.unit,
        "higher_is_better": known.higher_is_better,
        "score_a": sum(pair[0].values()) / found.n,
        "score_b": sum(pair[1].values()) / found.n,
        **found.model_dump(include={"delta", "ci_low", "ci_high", "p_value", "discordant"}),
    }
    doubts = []
    if chosen and not on_report:
        doubts.append("these items chose an experiment, and flatter it")
    if not (before.settings_digest and after.settings_digest):
        doubts.append("nothing tells whether both were measured in the same way")
    return {**result, "sentence": _sentence(result, doubts)}


def _comparable(first: list[Side], second: list[Side]) -> tuple[Side, Side]:
    """The first benchmark that both have, as two sides that were measured in the same way."""
    for a in first:
        for b in second:
            if a.benchmark != b.benchmark and a.benchmark and b.benchmark:
                continue
            if a.settings_digest != b.settings_digest and a.settings_digest and b.settings_digest:
                raise BadInput(
                    f"{a.label} and {b.label} were measured on {a.benchmark} with different settings (its items, the "
                    "tokens of an answer, the seed or the script); evaluate both again in the same way"
                )
            return a, b
    names = [" and ".join(side.benchmark for side in sides) for sides in (first, second)]
    raise BadInput(
        f"{first[0].label} was scored on {names[0]}, {second[0].label} on {names[1]}; "
        "score both on the same benchmark with `postgrad eval`"
    )


def _sides(name: str, settings: Settings) -> list[Side]:
    """What a name stands for: one side a benchmark, the primary one first."""
    path = Path(name).expanduser()
    if path.is_file():
        return _of_file(path.resolve(), settings)
    if path.suffix == ".jsonl":
        raise BadInput(f"{name} does not exist; give an items.jsonl file, or a run")
    run, _, experiment = name.partition("/")
    evidence = gather(settings, Database.open(settings.database), run)
    experiment = experiment or evidence.champion or BASELINE
    results = [result for result in evidence.results.values() if result.experiment == experiment]
    if not results:
        scored = ", ".join(dict.fromkeys(result.experiment for result in evidence.results.values()))
        raise BadInput(
            f"run {evidence.row.run_id} has no score of `{experiment}`; "
            f"{f'it has those of {scored}' if scored else 'it has none at all yet'}"
        )
    order = {benchmark: place for place, benchmark in enumerate(evidence.benchmarks)}
    by_benchmark: dict[str, list[EvalResult]] = defaultdict(list)
    for result in sorted(results, key=lambda result: order.get(result.benchmark, len(order))):
        by_benchmark[result.benchmark].append(result)
    return [_of_results(evidence, group) for group in by_benchmark.values()]


def _of_results(evidence: Evidence, results: list[EvalResult]) -> Side:
    """All that one model was scored on of one benchmark, in however many evaluations."""
    first = results[0]
    paths = dict.fromkeys(Path(result.items) for result in results if result.settings_digest == first.settings_digest)
    return _side(
        list(paths),
        label=f"{evidence.row.run_id}/{first.experiment}",
        benchmark=first.benchmark,
        settings_digest=first.settings_digest,
        unit=first.unit,
        higher_is_better=first.higher_is_better,
        chosen=first.experiment != BASELINE,
    )


def _of_file(path: Path, settings: Settings) -> list[Side]:
    """A file of item records; of a run of this home, with what the run knows about it."""
    if path.is_relative_to(settings.runs_dir.resolve()):
        run_id = path.relative_to(settings.runs_dir.resolve()).parts[0]
        evidence = gather(settings, Database.open(settings.database), run_id)
        results = [result for result in evidence.results.values() if Path(result.items).resolve() == path]
        if results:
            return [_of_results(evidence, results)]
    return [
        _side(
            [path], label=str(path), benchmark="", settings_digest="", unit="fraction", higher_is_better=True,
            chosen=False,
        )
    ]  # fmt: skip


def _side(
    paths: list[Path],
    *,
    label: str,
    benchmark: str,
    settings_digest: str,
    unit: str,
    higher_is_better: bool,
    chosen: bool,
) -> Side:
    scores: dict[str, list[float]] = defaultdict(list)
    report: set[str] = set()
    for path in paths:
        for row in read_lines(path):
            try:
                scores[str(row["id"])].append(float(row["score"]))
            except (KeyError, TypeError, ValueError) as error:
                raise BadInput(
                    f"{path} holds a line without `id` or `score`; give the items.jsonl of an evaluation"
                ) from error
            if row.get("part") == Part.REPORT:
                report.add(str(row["id"]))
    if not scores:
        raise BadInput(f"{' and '.join(map(str, paths))} cannot be read, or holds no item; evaluate {label} again")
    means = {item: sum(values) / len(values) for item, values in scores.items()}
    return Side(label, benchmark, settings_digest, unit, higher_is_better, means, frozenset(report), chosen)


def _sentence(result: dict[str, Any], doubts: list[str]) -> str:
    """The comparison in one honest sentence: better or worse only where the interval lies on one side of nothing."""
    a, b, unit = result["a"], result["b"], result["unit"]
    on = f"on {result['n']} items" + (f" of {result['benchmark']}" if result["benchmark"] else "")
    resampled = result["ci_low"] < result["ci_high"]  # else all items differ alike, and only the p-value tells
    if result["ci_low"] <= 0 <= result["ci_high"] or not (resampled or result["p_value"] < 0.05):
        said = f"No difference between {b} and {a} is shown {on}"
    else:
        said = f"{b} is {'better' if (result['delta'] > 0) == result['higher_is_better'] else 'worse'} than {a} {on}"
    scores = f"{scored(result['score_b'], unit)} against {scored(result['score_a'], unit)}"
    told = f"{said}: {scores}, {difference(result['delta'], unit)} ({interval_of(result)})"
    return "; ".join([told, *doubts]) + "."
