"""What evaluation jobs left, as scores with the records of their items; and the claim that two of them make."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agents.evaluator import lighteval
from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.evaluation import ANSWERS, ITEMS, PROMPTS, settings_digest
from agents.evaluator.scoring.marking import Answer, mark, versions
from agents.evaluator.scoring.tally import Row, by_category, item_means, tally
from agents.evaluator.scoring.tasks import Judge
from agents.evaluator.statistics import paired_comparison
from shared_memory.errors import PostgradError
from shared_memory.goal import Goal
from shared_memory.records import (
    CategoryScore,
    ComparisonResult,
    EvalResult,
    Job,
    JobSpec,
    Part,
)
from shared_memory.run_paths import RunPaths, write_atomically


def fault_of_output(job: Job, spec: JobSpec, paths: RunPaths) -> str:
    """Why an evaluation that says it succeeded is none: what it left does not cover what it was given exactly.

    Empty where it does.
    """
    if PROMPTS in spec.files:
        return _fault_of_answers(job, read_items(paths.stored(spec.files[PROMPTS])))
    asked = [row["id"] for row in read_items(paths.stored(spec.files[ITEMS]))] if ITEMS in spec.files else None
    try:
        records = read_items(Path(job.folder) / "out" / ITEMS)
        scored = [
            (str(row["id"]), float(row["score"]), bool(row["answered"]), bool(row["truncated"])) for row in records
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its out/{ITEMS} cannot be read ({error!r})"
    highest = math.inf if spec.config.get("metric") == "loss" else 1
    if any(not (math.isfinite(score) and 0 <= score <= highest) for _, score, _, _ in scored):
        return f"its out/{ITEMS} has a score that is no finite number from 0 to {highest}"
    if asked is None:
        return lighteval.fault_of_records(records)
    if sorted(row[0] for row in scored) != sorted(asked):
        return f"it scored {len({row[0] for row in scored})} of {len(asked)} items, or some of them twice"
    return ""


def _fault_of_answers(job: Job, prompts: Sequence[dict[str, Any]]) -> str:
    try:
        answers = read_answers(job)
    except (OSError, ValueError) as error:
        return f"its out/{ANSWERS} cannot be read ({str(error).splitlines()[0]})"
    given = sorted((answer.id, answer.epoch) for answer in answers)
    if given != sorted((row["id"], row["epoch"]) for row in prompts):
        return f"it answered {len(set(given))} of {len(prompts)} prompts, or some of them twice"
    return ""


def answers_left(job: Job) -> int:
    """How many answers a job that may have been killed has written down: whole lines."""
    path = Path(job.folder) / "out" / ANSWERS
    return path.read_bytes().count(b"\n") if job.folder and path.is_file() else 0


def read_answers(job: Job) -> list[Answer]:
    """What the model of a finished job said. Raises OSError and ValueError for what is no such file."""
    return [Answer.model_validate(row) for row in read_items(Path(job.folder) / "out" / ANSWERS)]


def collect(job: Job, spec: JobSpec, benchmark: Benchmark, goal: Goal, judge: Judge | None = None) -> list[EvalResult]:
    """The scores of a finished evaluation job, one for each part that it covered; parts are the benchmark's own.

    Written answers are scored here, and their item records put into the job's folder.
    """
    if benchmark.is_written:
        path = Path(job.folder) / ITEMS
        rows = mark(benchmark, read_answers(job), judge)
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    elif benchmark.engine == "lighteval":
        path = Path(job.folder) / ITEMS
        rows = lighteval.with_parts(read_items(Path(job.folder) / "out" / ITEMS))
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    else:
        path = Path(job.folder) / "out" / ITEMS
        items = {item.id: item for item in benchmark.items}
        rows = read_items(path)
        if any(row["id"] not in items for row in rows):
            raise PostgradError(f"{benchmark.name} was changed while it was measured; start a new run")
        known = ("part", "category", "cluster")
        rows = [{**row, **{key: getattr(items[row["id"]], key) for key in known}} for row in rows]
    by_part: dict[Part, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_part[Part(row["part"])].append(row)
    digest = settings_digest(benchmark, spec, judge.name if judge else "")
    return [_result(rows, part, job, benchmark, digest, goal.run.seed, path, judge) for part, rows in by_part.items()]


def _result(
    rows: list[dict[str, Any]],
    part: Part,
    job: Job,
    benchmark: Benchmark,
    digest: str,
    seed: int,
    path: Path,
    judge: Judge | None,
) -> EvalResult:
    """A part's score over its items; of an item that was asked several times, the mean counts once.

    Rubrics take points off: an item may score below 0, a mean may not (see `rubrics.earned_points`).
    """
    found = tally(rows)
    return EvalResult(
        experiment=job.experiment,
        benchmark=benchmark.name,
        part=part,
        score=max(0.0, found.score),
        stderr=found.stderr,
        n=found.n,
        unit="nats" if benchmark.metric == "loss" else "fraction",
        higher_is_better=benchmark.metric != "loss",
        epochs=benchmark.epochs,
        answered=found.answered,
        accuracy_given_answered=found.accuracy_given_answered,
        truncated=found.truncated,
        completed=found.completed,
        unparsed=found.unparsed,
        clusters=found.clusters,
        judge=judge.name if judge else "",
        categories={name: _category_score(group) for name, group in by_category(rows).items()},
        settings_digest=digest,
        versions=versions(benchmark) if benchmark.is_written else _of_lighteval(job),
        seed=seed,
        items=str(path),
        items_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        job=job.key,
        seconds=job.seconds + (judge.seconds if judge else 0.0),
    )


def _of_lighteval(job: Job) -> dict[str, str]:
    """LightEval's version, where it has scored the answers in its job."""
    found = job.result.get("lighteval")
    return {"lighteval": str(found)} if found else {}


def _category_score(rows: Sequence[Row]) -> CategoryScore:
    found = tally(rows)
    return CategoryScore(score=max(0.0, found.score), stderr=found.stderr, n=found.n)


def claim(baseline: EvalResult, champion: EvalResult, benchmark: Benchmark) -> ComparisonResult:
    """The one comparison of a run, paired on the report items.

    Raises PostgradError where the two were not measured in the same way.
    """
    if baseline.settings_digest != champion.settings_digest:
        raise PostgradError(
            f"{baseline.id} and {champion.id} were measured with different settings; run the goal again to compare them"
        )
    clusters = {item.id: item.cluster for item in benchmark.items}
    paired = paired_comparison(item_scores(baseline, benchmark), item_scores(champion, benchmark), clusters)
    return ComparisonResult(
        benchmark=champion.benchmark,
        experiment=champion.experiment,
        **paired.model_dump(exclude={"clusters"}),
        unit=champion.unit,
        higher_is_better=champion.higher_is_better,
    )


def item_scores(result: EvalResult, benchmark: Benchmark) -> dict[str, float]:
    """Item → score on the result's part, the mean where an item was asked several times."""
    rows = read_items(Path(result.items))
    if benchmark.engine == "lighteval":  # which keeps its items to itself
        return item_means(row for row in rows if row["part"] == result.part)
    wanted = {item.id for item in benchmark.items if item.part == result.part}
    return item_means(row for row in rows if row["id"] in wanted)


def seconds_an_item(results: Iterable[EvalResult], benchmark: str = "") -> float | None:
    """Seconds an item took, however often it was asked, in the slowest evaluation of this run; None before the first.

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
