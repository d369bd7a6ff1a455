"""Makes the jobs that score a model, or say how likely it finds given answers; see scripts/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.base_model import BaseModel
from agents.evaluator import lighteval
from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.scoring import judge as grading
from agents.evaluator.scoring.marking import prompts_of, scoring_digest
from agents.jobs.hardware import local_hardware
from shared_memory.goal import Goal
from shared_memory.records import (
    Estimate,
    Experiment,
    JobSpec,
    Part,
    Purpose,
    canonical_digest,
)
from shared_memory.run_paths import RunPaths

_FOLDER = Path(__file__).parent / "scripts"
SCRIPTS = {"written": _FOLDER / "generate.py", "read": _FOLDER / "likelihood.py"}
"""What has the model write answers, which are scored here; and what measures how it reads."""
BESIDE = {
    "generate.py": (
        "answers.py", "by_vllm.py", "decoding.py", "job.py", "job_config.py", "prompts.py", "sampling.py", "slots.py",
        "texts.py",
    ),
    "likelihood.py": ("job.py",),
}  # fmt: skip
"""What they import from beside them."""
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
    beside = (script.with_name(name) for name in BESIDE[script.name])
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
