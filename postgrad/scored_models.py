"""What a name in `postgrad compare` stands for: a model's item records, and how they came about."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postgrad.answer import BASELINE
from postgrad.report.evidence import Evidence, gather, read_lines
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.records import EvalResult, Part
from shared_memory.settings import Settings


@dataclass(frozen=True)
class ScoredModel:
    """A model's item records on one benchmark; a file that belongs to no run of this home tells less."""

    label: str
    rows: tuple[Mapping[str, Any], ...]
    """Item records: at least `id` and `score`."""
    benchmark: str = ""
    settings_digest: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the evaluation job was given, as far as a score depends on it."""
    unit: str = "fraction"
    higher_is_better: bool = True
    chosen: bool = False
    """Whether it is an experiment, which the selection items have chosen."""
    looked_at: Mapping[Part, int] = field(default_factory=dict)
    """Experiments of its run that were scored on the items of a part."""

    @property
    def items(self) -> frozenset[str]:
        return frozenset(str(row["id"]) for row in self.rows)

    @property
    def report(self) -> frozenset[str]:
        """Items that chose nothing."""
        return frozenset(str(row["id"]) for row in self.rows if row.get("part") == Part.REPORT)

    def rows_of(self, items: Iterable[str]) -> list[Mapping[str, Any]]:
        wanted = set(items)
        return [row for row in self.rows if str(row["id"]) in wanted]


def scored_models(name: str, settings: Settings) -> list[ScoredModel]:
    """What a name stands for, once for each benchmark, the primary one first.

    A run (an id, its beginning, or `last`: its champion, else its base model), `RUN/EXPERIMENT`, or an items.jsonl file
    of an evaluation. Raises BadInput for what is none of them, or has no score.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return [_of_file(path.resolve(), settings)]
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


def comparable(first: Sequence[ScoredModel], second: Sequence[ScoredModel]) -> tuple[ScoredModel, ScoredModel]:
    """The first benchmark that both have, measured in the same way as far as anything tells.

    Raises BadInput where there is none, or where their settings differ, with what does.
    """
    for a in first:
        for b in second:
            if a.benchmark != b.benchmark and a.benchmark and b.benchmark:
                continue
            if a.settings_digest != b.settings_digest and a.settings_digest and b.settings_digest:
                raise BadInput(
                    f"{a.label} and {b.label} were measured on {a.benchmark} with different settings "
                    f"({_what_differs(a.settings, b.settings)}); evaluate both again in the same way"
                )
            return a, b
    names = [" and ".join(model.benchmark for model in models) for models in (first, second)]
    raise BadInput(
        f"{first[0].label} was scored on {names[0]}, {second[0].label} on {names[1]}; "
        "score both on the same benchmark with `postgrad eval`"
    )


def _what_differs(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)] if a and b else []
    told = [f"{key.replace('_', ' ')} {a.get(key)} against {b.get(key)}" for key in keys]
    return "; ".join(told) or "its items, how often they were asked, or the code that scores them"


def _of_results(evidence: Evidence, results: list[EvalResult]) -> ScoredModel:
    """All that one model was scored on of one benchmark, in however many evaluations."""
    from agents.evaluator.evaluation import NOT_SETTINGS

    first = results[0]
    paths = dict.fromkeys(Path(result.items) for result in results if result.settings_digest == first.settings_digest)
    label = f"{evidence.row.run_id}/{first.experiment}"
    config = evidence.pinned.get(first.job, {}).get("spec", {}).get("config", {})
    rivals = [
        result
        for result in evidence.results.values()
        if result.benchmark == first.benchmark and result.experiment != BASELINE
    ]
    return ScoredModel(
        label=label,
        rows=_rows(paths, label),
        benchmark=first.benchmark,
        settings_digest=first.settings_digest,
        settings={"K": first.epochs, **{key: value for key, value in config.items() if key not in NOT_SETTINGS}},
        unit=first.unit,
        higher_is_better=first.higher_is_better,
        chosen=first.experiment != BASELINE,
        looked_at={part: len({rival.experiment for rival in rivals if rival.part == part}) for part in Part},
    )


def _of_file(path: Path, settings: Settings) -> ScoredModel:
    """A file of item records; of a run of this home, with what the run knows about it."""
    if path.is_relative_to(settings.runs_dir.resolve()):
        run_id = path.relative_to(settings.runs_dir.resolve()).parts[0]
        evidence = gather(settings, Database.open(settings.database), run_id)
        results = [result for result in evidence.results.values() if Path(result.items).resolve() == path]
        if results:
            return _of_results(evidence, results)
    return ScoredModel(label=str(path), rows=_rows([path], str(path)))


def _rows(paths: Iterable[Path], label: str) -> tuple[Mapping[str, Any], ...]:
    rows = [(path, row) for path in paths for row in read_lines(path)]
    for path, row in rows:
        score = row.get("score")
        if "id" not in row or not isinstance(score, int | float) or not math.isfinite(score):
            raise BadInput(f"{path} holds a line without `id` or `score`; give the items.jsonl of an evaluation")
    if not rows:
        raise BadInput(f"{' and '.join(map(str, paths))} cannot be read, or holds no item; evaluate {label} again")
    return tuple(row for _, row in rows)
