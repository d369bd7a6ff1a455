"""One evaluation: from a proposal to jobs, and from a job's item records to scores."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agents.base_model import BaseModel
from agents.evaluator.benchmarks import Benchmark, Metric
from agents.evaluator.statistics import paired_comparison, summarise
from agents.jobs.hardware import local_hardware
from shared_memory.errors import PostgradError
from shared_memory.goal import Goal
from shared_memory.records import (
    CategoryScore,
    ComparisonResult,
    Estimate,
    EvalResult,
    Experiment,
    Job,
    JobSpec,
    Part,
    Purpose,
    canonical_digest,
)
from shared_memory.run_paths import RunPaths

_FOLDER = Path(__file__).parent / "scripts"
SCRIPTS: dict[Metric, Path] = {
    "choice": _FOLDER / "evaluate.py",
    "exact": _FOLDER / "evaluate.py",
    "loss": _FOLDER / "likelihood.py",
    "preference": _FOLDER / "likelihood.py",
}
"""Metric → the job script that measures it."""
BATCH_SIZE = 64
BATCH_TOKENS = 2048
UNCALIBRATED_SECONDS_AN_ANSWER = 1.0
UNCALIBRATED_SECONDS_A_BYTE = 0.0006
"""For a 100M-parameter model on two cores that writes an answer, or reads an item (0.002 s a token); scaled by the
model's size until this run has measured its own."""


def evaluation_job(
    benchmark: Benchmark,
    parts: Sequence[Part],
    *,
    name: str,
    experiment: Experiment | None,
    delivered: str,
    model: BaseModel,
    goal: Goal,
    paths: RunPaths,
    seconds_an_item: float | None,
) -> JobSpec:
    """The job that scores a model on some parts of a benchmark.

    `name` is the experiment it is filed under (`baseline` where `experiment` is None); `delivered`, if given, is the
    folder of the handed-over model, which is then what gets measured.
    """
    rows = _rows(benchmark, parts)
    weights, adapter = _what_to_load(experiment, delivered, model)
    script = SCRIPTS[benchmark.metric]
    estimate = evaluation_estimate(benchmark, parts, model, seconds_an_item)
    return JobSpec(
        purpose=Purpose.EVALUATION,
        experiment=name,
        title=f"score {name} on {len(rows)} items of {benchmark.name} ({' + '.join(parts)})",
        benchmark=benchmark.name,
        script=script.name,
        files={script.name: paths.store(script), "items.jsonl": paths.store(b"".join(rows))},
        config={
            "model": weights,
            # What is handed over always lies in the same folder: the job that trained it tells two such models apart.
            "revision": experiment.jobs[-1] if experiment and experiment.jobs and delivered else None,
            "adapter": adapter,
            "items": "items.jsonl",
            **_settings(benchmark, goal),
        },
        flavor=local_hardware().flavor,
        timeout_seconds=timeout_seconds(estimate),
        estimate=estimate,
    )


def evaluation_estimate(
    benchmark: Benchmark, parts: Sequence[Part], model: BaseModel, seconds_an_item: float | None
) -> Estimate:
    """What scoring a model of this size takes; `seconds_an_item` as this run has measured it, None before that."""
    rows = _rows(benchmark, parts)
    written = UNCALIBRATED_SECONDS_AN_ANSWER if _is_written(benchmark) else 0.0
    read = UNCALIBRATED_SECONDS_A_BYTE * sum(map(len, rows)) / len(rows)
    per_item = seconds_an_item or max(written, read) * max(1.0, model.parameters / 1e8)
    basis = (
        "measured on an earlier evaluation of this run" if seconds_an_item else "a rough guess from the model's size"
    )
    return Estimate(
        hours=round((15 + per_item * len(rows)) / 3600, 4),
        usd_micro=0,
        memory_gib=_memory_gib(benchmark, model),
        basis=f"{per_item:.2f} s an item, {basis}",
    )


def timeout_seconds(estimate: Estimate) -> int:
    return max(3600, int(3 * 3600 * estimate.hours))


def _rows(benchmark: Benchmark, parts: Sequence[Part]) -> list[bytes]:
    """The items of some parts, a JSON line each."""
    items = (item for item in benchmark.items if item.part in parts)
    return [(json.dumps(item.plain(), ensure_ascii=False) + "\n").encode() for item in items]


def _what_to_load(experiment: Experiment | None, delivered: str, model: BaseModel) -> tuple[str, str | None]:
    """Folder of the weights, and of the adapter over them if there is one."""
    if experiment is None:
        return model.folder, None
    folder = delivered or experiment.model
    if (Path(folder) / "adapter_config.json").exists():
        return model.folder, folder
    return folder, None


def _is_written(benchmark: Benchmark) -> bool:
    """Whether the model writes answers; a likelihood is only read."""
    return benchmark.metric in ("choice", "exact")


def _memory_gib(benchmark: Benchmark, model: BaseModel) -> float:
    """Weights and what is loaded with them; a likelihood also needs the logits of a batch, in float32."""
    logits = 0 if _is_written(benchmark) else 4 * BATCH_TOKENS * int(model.config.get("vocab_size", 0))
    return round(0.9 + (6 * model.parameters + logits) / 1024**3, 2)


def _settings(benchmark: Benchmark, goal: Goal) -> dict[str, Any]:
    """What a score depends on beside the model and the items."""
    if not _is_written(benchmark):
        return {"metric": benchmark.metric, "batch_tokens": BATCH_TOKENS, "dtype": "auto"}
    return {
        "template": "gpqa" if benchmark.metric == "choice" else "exact",
        "max_tokens": benchmark.max_tokens,
        "batch_size": BATCH_SIZE,
        "epochs": 1,
        "seed": goal.run.seed,
        "dtype": "auto",
    }


NOT_SETTINGS = ("model", "revision", "adapter", "items")
"""Keys of an evaluation's config that say what is scored, not how."""


def settings_digest(benchmark: Benchmark, spec: JobSpec) -> str:
    """sha256 of everything that must be equal for two scores to be compared, as the job was really given it."""
    settings = {key: value for key, value in spec.config.items() if key not in NOT_SETTINGS}
    return canonical_digest({"benchmark": benchmark.digest, "script": spec.files[spec.script], **settings})


def fault_of_output(job: Job, spec: JobSpec, paths: RunPaths) -> str:
    """Why an evaluation that says it succeeded is none: its records do not cover its items exactly. Else empty."""
    asked = [row["id"] for row in read_items(paths.stored(spec.files["items.jsonl"]))]
    try:
        records = read_items(Path(job.folder) / "out" / "items.jsonl")
        scored = [
            (str(row["id"]), float(row["score"]), bool(row["answered"]), bool(row["truncated"])) for row in records
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its out/items.jsonl cannot be read ({error!r})"
    highest = math.inf if spec.config.get("metric") == "loss" else 1
    if any(not (math.isfinite(score) and 0 <= score <= highest) for _, score, _, _ in scored):
        return f"its out/items.jsonl has a score that is no finite number from 0 to {highest}"
    if sorted(row[0] for row in scored) != sorted(asked * int(spec.config.get("epochs", 1))):
        return f"it scored {len({row[0] for row in scored})} of {len(asked)} items, or some of them twice"
    return ""


def collect(job: Job, spec: JobSpec, benchmark: Benchmark, goal: Goal) -> list[EvalResult]:
    """The scores of a finished evaluation job, one for each part that it covered; parts are the benchmark's own."""
    items = {item.id: item for item in benchmark.items}
    path = Path(job.folder) / "out" / "items.jsonl"
    by_part: dict[Part, list[dict[str, Any]]] = defaultdict(list)
    for row in read_items(path):
        item = items.get(row["id"])
        if item is None:
            raise PostgradError(f"{benchmark.name} was changed while it was measured; start a new run")
        by_part[item.part].append({**row, "category": item.category})
    digest = settings_digest(benchmark, spec)
    return [_result(rows, part, job, benchmark, digest, goal.run.seed, path) for part, rows in by_part.items()]


def _result(
    rows: list[dict[str, Any]], part: Part, job: Job, benchmark: Benchmark, digest: str, seed: int, path: Path
) -> EvalResult:
    score, stderr, n = summarise([float(row["score"]) for row in rows])
    answered = [row for row in rows if row["answered"]]
    categories: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        categories[row["category"]].append(float(row["score"]))
    return EvalResult(
        experiment=job.experiment,
        benchmark=benchmark.name,
        part=part,
        score=score,
        stderr=stderr,
        n=n,
        unit="nats" if benchmark.metric == "loss" else "fraction",
        higher_is_better=benchmark.metric != "loss",
        answered=len(answered) / n,
        accuracy_given_answered=sum(float(row["score"]) for row in answered) / len(answered) if answered else 0.0,
        truncated=sum(bool(row["truncated"]) for row in rows) / n,
        categories={
            name: CategoryScore(score=sum(scores) / len(scores), n=len(scores))
            for name, scores in sorted(categories.items())
        },
        settings_digest=digest,
        seed=seed,
        items=str(path),
        job=job.key,
        seconds=job.seconds,
    )


def claim(baseline: EvalResult, champion: EvalResult, benchmark: Benchmark) -> ComparisonResult:
    """The one comparison of a run, paired on the report items.

    Raises PostgradError where the two were not measured in the same way.
    """
    if baseline.settings_digest != champion.settings_digest:
        raise PostgradError(
            f"{baseline.id} and {champion.id} were measured with different settings; run the goal again to compare them"
        )
    paired = paired_comparison(item_scores(baseline, benchmark), item_scores(champion, benchmark))
    return ComparisonResult(
        benchmark=champion.benchmark,
        experiment=champion.experiment,
        delta=paired.delta,
        ci_low=paired.ci_low,
        ci_high=paired.ci_high,
        p_value=paired.p_value,
        n=paired.n,
        unit=champion.unit,
        higher_is_better=champion.higher_is_better,
    )


def item_scores(result: EvalResult, benchmark: Benchmark) -> dict[str, float]:
    """Item → score on the result's part, the mean where an item was asked several times."""
    wanted = {item.id for item in benchmark.items if item.part == result.part}
    scores: dict[str, list[float]] = defaultdict(list)
    for row in read_items(Path(result.items)):
        if row["id"] in wanted:
            scores[row["id"]].append(float(row["score"]))
    return {item: sum(values) / len(values) for item, values in scores.items()}


def seconds_an_item(results: Iterable[EvalResult], benchmark: str = "") -> float | None:
    """Seconds an item took in the slowest evaluation of this run so far, None before the first.

    `benchmark`: the one that counts; empty for all.
    """
    items: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = {}
    for result in results:
        if benchmark not in ("", result.benchmark):
            continue
        items[result.job] += result.n
        seconds[result.job] = result.seconds
    return max((seconds[job] / n for job, n in items.items()), default=None)


def read_items(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
