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
from agents.evaluator import lighteval
from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.scoring import judge as grading
from agents.evaluator.scoring.marking import Answer, mark, prompts_of, scoring_digest, versions
from agents.evaluator.scoring.tally import Row, by_category, item_means, tally
from agents.evaluator.scoring.tasks import Judge
from agents.evaluator.statistics import paired_comparison
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
BESIDE = (
    "answers.py", "by_vllm.py", "decoding.py", "job_config.py", "prompts.py", "sampling.py", "slots.py", "texts.py",
)  # fmt: skip
"""What generate.py imports from beside it."""
PROMPTS, ITEMS = "prompts.jsonl", "items.jsonl"
"""What a job is given: prompts without a right answer in them, or the texts whose likelihood it measures."""
CHAT_TEMPLATE = "chat_template.jinja"
ANSWERS = "answers.jsonl"
"""In the `out` of the job that writes them; its folder then gets their item records, as ITEMS."""
MICRO_BATCH = 64
"""Prompts that are answered side by side. The job takes fewer where they do not fit."""
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
    if benchmark.engine == "lighteval":
        return lighteval.lighteval_job(benchmark, name=name, model=model, paths=paths)
    items = sum(item.part in parts for item in benchmark.items)
    asked, rows = (PROMPTS, prompt_rows(benchmark, parts)) if benchmark.is_written else (ITEMS, _rows(benchmark, parts))
    weights, adapter = _what_to_load(experiment, delivered, model)
    script = SCRIPTS["written" if benchmark.is_written else "read"]
    templates = {CHAT_TEMPLATE: paths.store(benchmark.chat_template.encode())} if benchmark.chat_template else {}
    estimate = evaluation_estimate(benchmark, parts, model, seconds_an_item)
    timeout = timeout_seconds(estimate)
    title = f"score {name} on {items} items of {benchmark.name} ({' + '.join(parts)})"
    judged = {}
    if benchmark.is_judged:
        terms = grading.terms(benchmark, parts, goal)
        judged = {grading.TERMS: paths.store(terms.model_dump_json().encode())}
        title, estimate = title + terms.told, terms.added_to(estimate)
    return JobSpec(
        purpose=Purpose.EVALUATION,
        experiment=name,
        title=title,
        benchmark=benchmark.name,
        script=script.name,
        files={
            **{file.name: paths.store(file) for file in _with_what_it_imports(script)},
            asked: paths.store(b"".join(rows)),
            **templates,
            **judged,
        },
        config={
            "model": weights,
            # What is handed over always lies in the same folder: the job that trained it tells two such models apart.
            "revision": experiment.jobs[-1] if experiment and experiment.jobs and delivered else None,
            "adapter": adapter,
            asked.partition(".")[0]: asked,
            **_settings(benchmark, goal),
        },
        flavor=local_hardware().flavor,
        timeout_seconds=timeout,
        estimate=estimate,
    )


def _with_what_it_imports(script: Path) -> list[Path]:
    beside = (script.with_name(name) for name in BESIDE) if script.name == "generate.py" else ()
    return [script, *(file for file in beside if file.exists())]


def evaluation_estimate(
    benchmark: Benchmark, parts: Sequence[Part], model: BaseModel, seconds_an_item: float | None
) -> Estimate:
    """What scoring a model of this size takes; `seconds_an_item` as this run has measured it, None before that."""
    if benchmark.engine == "lighteval":
        return lighteval.estimate(model)
    rows = _rows(benchmark, parts)
    written = UNCALIBRATED_SECONDS_AN_ANSWER if benchmark.is_written else 0.0
    read = UNCALIBRATED_SECONDS_A_BYTE * sum(map(len, rows)) / len(rows)
    per_item = seconds_an_item or max(written, read) * max(1.0, model.parameters / 1e8) * benchmark.epochs
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
        "micro_batch": MICRO_BATCH,
        "seed": goal.run.seed,
        "dtype": "auto",
        "engine": "auto",
        "resume_from": None,
    }


NOT_SETTINGS = ("model", "revision", "adapter", "api_base", "items", "prompts", "micro_batch", "resume_from")
"""Keys of an evaluation's config that say what is scored, not how; `micro_batch` is halved by the job itself where
memory runs out, and changes no more than the rounding of a float."""


def settings_digest(benchmark: Benchmark, spec: JobSpec, judge: str = "") -> str:
    """sha256 of everything that must be equal for two scores to be compared, as the job was really given it."""
    settings = {key: value for key, value in spec.config.items() if key not in NOT_SETTINGS}
    scoring = {"scoring": scoring_digest(), "judge": judge} if benchmark.is_written else {}
    programs = {name: file for name, file in spec.files.items() if name == spec.script or name.endswith(".py")}
    return canonical_digest({"benchmark": benchmark.digest, "programs": programs, **settings, **scoring})


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
