"""One evaluation: from a proposal to jobs, and from a job's item records to scores."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agents.base_model import BaseModel
from agents.evaluator.benchmarks import Benchmark
from agents.evaluator.marking import Answer, mark, prompts_of, scoring_digest, versions
from agents.evaluator.statistics import paired_comparison, summarise
from agents.evaluator.tasks import Judge
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
from shared_memory.run_paths import RunPaths, write_atomically

_FOLDER = Path(__file__).parent / "scripts"
SCRIPTS = {"written": _FOLDER / "generate.py", "read": _FOLDER / "likelihood.py"}
"""What has the model write answers, which are scored here; and what measures how it reads."""
PROMPTS, ITEMS = "prompts.jsonl", "items.jsonl"
"""What a job is given: prompts without a right answer in them, or the texts whose likelihood it measures."""
CHAT_TEMPLATE = "chat_template.jinja"
ANSWERS = "answers.jsonl"
"""In the `out` of the job that writes them; its folder then gets their item records, as ITEMS."""
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
    items = sum(item.part in parts for item in benchmark.items)
    asked, rows = (PROMPTS, prompt_rows(benchmark, parts)) if benchmark.is_written else (ITEMS, _rows(benchmark, parts))
    weights, adapter = _what_to_load(experiment, delivered, model)
    script = SCRIPTS["written" if benchmark.is_written else "read"]
    templates = {CHAT_TEMPLATE: paths.store(benchmark.chat_template.encode())} if benchmark.chat_template else {}
    estimate = evaluation_estimate(benchmark, parts, model, seconds_an_item)
    return JobSpec(
        purpose=Purpose.EVALUATION,
        experiment=name,
        title=f"score {name} on {items} items of {benchmark.name} ({' + '.join(parts)})",
        benchmark=benchmark.name,
        script=script.name,
        files={script.name: paths.store(script), asked: paths.store(b"".join(rows)), **templates},
        config={
            "model": weights,
            # What is handed over always lies in the same folder: the job that trained it tells two such models apart.
            "revision": experiment.jobs[-1] if experiment and experiment.jobs and delivered else None,
            "adapter": adapter,
            asked.partition(".")[0]: asked,
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
    written = UNCALIBRATED_SECONDS_AN_ANSWER if benchmark.is_written else 0.0
    read = UNCALIBRATED_SECONDS_A_BYTE * sum(map(len, rows)) / len(rows)
    per_item = seconds_an_item or max(written, read) * max(1.0, model.parameters / 1e8)
    basis = (
        "measured on an earlier evaluation of this run" if seconds_an_item else "a rough guess from the model's size"
    )
    return Estimate(
        hours=round((15 + per_item * len(rows) * benchmark.epochs) / 3600, 4),
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


def prompt_rows(benchmark: Benchmark, parts: Sequence[Part]) -> list[bytes]:
    """The prompts of some parts, a JSON line each."""
    return [(json.dumps(row, ensure_ascii=False) + "\n").encode() for row in prompts_of(benchmark, parts)]


def _memory_gib(benchmark: Benchmark, model: BaseModel) -> float:
    """Weights and what is loaded with them; a likelihood also needs the logits of a batch, in float32."""
    logits = 0 if benchmark.is_written else 4 * BATCH_TOKENS * int(model.config.get("vocab_size", 0))
    return round(0.9 + (6 * model.parameters + logits) / 1024**3, 2)


def _settings(benchmark: Benchmark, goal: Goal) -> dict[str, Any]:
    """What a score depends on beside the model and the items."""
    if not benchmark.is_written:
        return {"metric": benchmark.metric, "batch_tokens": BATCH_TOKENS, "dtype": "auto"}
    return {
        "chat_template": CHAT_TEMPLATE if benchmark.chat_template else None,
        "decoding": benchmark.decoding,
        "max_tokens": benchmark.max_tokens,
        "batch_size": BATCH_SIZE,
        "seed": goal.run.seed,
        "dtype": "auto",
        "engine": "auto",
        "resume_from": None,
    }


NOT_SETTINGS = ("model", "revision", "adapter", "items", "prompts", "resume_from")
"""Keys of an evaluation's config that say what is scored, not how."""


def settings_digest(benchmark: Benchmark, spec: JobSpec, judge: str = "") -> str:
    """sha256 of everything that must be equal for two scores to be compared, as the job was really given it."""
    settings = {key: value for key, value in spec.config.items() if key not in NOT_SETTINGS}
    scoring = {"scoring": scoring_digest(), "judge": judge} if benchmark.is_written else {}
    return canonical_digest({"benchmark": benchmark.digest, "script": spec.files[spec.script], **settings, **scoring})


def fault_of_output(job: Job, spec: JobSpec, paths: RunPaths) -> str:
    """Why an evaluation that says it succeeded is none: what it left does not cover what it was given exactly.

    Empty where it does.
    """
    if PROMPTS in spec.files:
        return _fault_of_answers(job, read_items(paths.stored(spec.files[PROMPTS])))
    asked = [row["id"] for row in read_items(paths.stored(spec.files[ITEMS]))]
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
    else:
        path = Path(job.folder) / "out" / ITEMS
        items = {item.id: item for item in benchmark.items}
        rows = read_items(path)
        if any(row["id"] not in items for row in rows):
            raise PostgradError(f"{benchmark.name} was changed while it was measured; start a new run")
        rows = [{**row, "part": items[row["id"]].part, "category": items[row["id"]].category} for row in rows]
    by_part: dict[Part, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_part[Part(row["part"])].append(row)
    digest = settings_digest(benchmark, spec, judge.name if judge else "")
    return [_result(rows, part, job, benchmark, digest, goal.run.seed, path) for part, rows in by_part.items()]


def _result(
    rows: list[dict[str, Any]], part: Part, job: Job, benchmark: Benchmark, digest: str, seed: int, path: Path
) -> EvalResult:
    """A part's score over its items; of an item that was asked several times, the mean counts once."""
    score, stderr, n = summarise(list(_means(rows).values()))
    asked = len(rows)
    answered = [float(row["score"]) for row in rows if row["answered"]]
    ended = [float(row["score"]) for row in rows if not row["truncated"]]
    categories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        categories[row["category"]].append(row)
    return EvalResult(
        experiment=job.experiment,
        benchmark=benchmark.name,
        part=part,
        score=score,
        stderr=stderr,
        n=n,
        unit="nats" if benchmark.metric == "loss" else "fraction",
        higher_is_better=benchmark.metric != "loss",
        epochs=benchmark.epochs,
        answered=len(answered) / asked,
        accuracy_given_answered=sum(answered) / len(answered) if answered else 0.0,
        truncated=sum(bool(row["truncated"]) for row in rows) / asked,
        completed=sum(ended) / len(ended) if ended else None,
        unparsed=sum(not (row["answered"] or row["truncated"]) for row in rows) / asked,
        categories={name: _category_score(group) for name, group in sorted(categories.items())},
        settings_digest=digest,
        versions=versions() if benchmark.is_written else {},
        seed=seed,
        items=str(path),
        items_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        job=job.key,
        seconds=job.seconds,
    )


def _category_score(rows: list[dict[str, Any]]) -> CategoryScore:
    score, stderr, n = summarise(list(_means(rows).values()))
    return CategoryScore(score=score, stderr=stderr, n=n)


def _means(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Item → score, the mean where it was asked several times."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        scores[row["id"]].append(float(row["score"]))
    return {item: sum(values) / len(values) for item, values in scores.items()}


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
    return _means(row for row in read_items(Path(result.items)) if row["id"] in wanted)


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
