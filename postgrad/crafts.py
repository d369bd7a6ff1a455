"""Each role's craft on its own: audit data, plan a training, evaluate a model; without a goal file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from postgrad import api
from postgrad.decide import Decide
from postgrad.events import Event
from shared_memory.errors import BadInput, Conflict, PostgradError
from shared_memory.goal import Goal, parse_goal
from shared_memory.records import Recipe
from shared_memory.settings import Settings, load_settings

if TYPE_CHECKING:
    from agents.base_model import BaseModel
    from agents.data_engineer.checks.stream import Progress
    from agents.data_engineer.contamination.benchmark_texts import BenchmarkText

Files = str | Path | Sequence[str | Path]
METHODS = ("auto", "sft", "dpo")
Metric = Literal["auto", "choice", "exact", "loss", "preference"]


def audit(
    data: Files,
    *,
    model: str | Path = "",
    revision: str = "",
    max_length: int | None = None,
    method: str = "",
    benchmark: Files = (),
    exact: bool = False,
    split: str = "",
    clean: str | Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """What is wrong with data before anybody trains on them; the JSON of `postgrad audit --json`.

    `data` are files, folders or Hub ids. With `model`, lengths are its own tokens and its chat template is tried;
    `max_length` says what would be cut; `method` asks whether they can train it; each `benchmark` (a file or a name) is
    looked for in the rows; `exact` tokenises all rows, however many; `clean` names a new file for the rows that are
    left when what can be mended is.

    `{rows, columns, format, methods, not_trainable {method: why}, splits, schema, licence, tokens {tokenizer, p50, p95,
    max, total, sample}, duplicates {exact, near}, contamination [{benchmark, flagged, items, rate, examples}],
    histograms, sampled, findings [{kind, severity, count, share, examples, advice, fix}], fixes, fix_command, left,
    not_cleanable (why `clean` would be refused), verdict (fit | fixable | unfit), reason, seconds}`. Raises BadInput
    for data, a model or a benchmark that cannot be used.
    """
    from agents.data_engineer.audit import audit_sources

    names = _names(data)
    report = audit_sources(
        names,
        model=str(model),
        revision=revision,
        max_length=max_length,
        method=method,
        benchmarks=[text for name in _names(benchmark) for text in _benchmark_texts(name)],
        exact=exact,
        split=split,
        clean=Path(clean).expanduser() if clean else None,
        on_progress=on_progress,
    )
    again: list[str] = [
        *(f"--benchmark={name}" for name in _names(benchmark)),
        *([f"--model={model}"] if model else []),
        *([f"--revision={revision}"] if revision else []),
        *([f"--max-length={max_length}"] if max_length else []),
        *(["--exact"] if report["sampled"]["tokens"] else []),
    ]
    again += [f"--split={split}"] if split else []
    copy = f"{Path(names[0]).name.partition('.')[0]}-clean.jsonl"
    command = shlex.join(["postgrad", "audit", *names, *again, "--clean", copy])
    return {"data": names, **report, "fix_command": command if report["fixes"] and not report["not_cleanable"] else ""}


def _benchmark_texts(name: str) -> list[BenchmarkText]:
    """What the items of a benchmark say. Raises BadInput for one that cannot be read."""
    from agents.evaluator.benchmarks import load_benchmark
    from graph.clean_hands import texts_of
    from shared_memory.goal import BenchmarkGoal

    return list(texts_of(load_benchmark(BenchmarkGoal.model_validate(api.benchmark_table(name)))))


def _names(data: Files) -> list[str]:
    """Files and folders with `~` made out; a Hub id stays what it is."""
    names = [data] if isinstance(data, str | Path) else data
    return [str(Path(name).expanduser()) if str(name).startswith("~") else str(name) for name in names]


def plan(
    model: str | Path,
    method: str = "auto",
    data: Files | None = None,
    *,
    revision: str = "",
) -> dict[str, Any]:
    """What training a model on this machine would take, from its config.json; the JSON of `postgrad plan --json`.

    `{model, parameters, recipe, memory {weights, gradients, optimizer, activations, overhead, peak} (GiB), hardware
    {name, count, vram_gib, usd_per_hour}, batch {per_device, accumulation, effective}, hours, usd, alternatives,
    warnings}`. The recipe is the one that a run would try first (`auto`: by
    DPO where the data are preference pairs, else by SFT); its batch is split until it fits into memory.
    Everything is an estimate, and `warnings` says what it leaves out; `hours` is None where nothing is known to tell
    them by. A processor stands among the hardware with its cores as `count` and the machine's memory as `vram_gib`.

    Raises BadInput for a model or data that cannot be used, and where there is no recipe for the method.
    """
    from agents.jobs.hardware import local_hardware
    from agents.trainer.footprint import training_memory

    warnings: list[str] = []
    described = _described(str(model), revision, warnings)
    recipe = _first_recipe(_method(method, data), described.parameters)
    machine = local_hardware()
    room = machine.gpus[0].memory_gib if machine.gpus else machine.ram_gib
    while training_memory(described, recipe).peak > room > 0 and recipe.micro_batch > 1:
        smaller = next(n for n in range(recipe.micro_batch - 1, 0, -1) if recipe.batch % n == 0)
        recipe = recipe.model_copy(update={"micro_batch": smaller})
    memory = training_memory(described, recipe)
    if memory.peak > room > 0:
        warnings.append(f"it does not fit: about {memory.peak:.1f} GiB are needed, and there are {room:.1f} GiB")
    warnings.append("activations are those of rows that fill a quarter of max_length, the logits are not counted")
    hours = _hours(described, recipe, data, warnings)
    return {
        "model": described.name,
        "parameters": described.parameters,
        "recipe": recipe.plain(),
        "memory": {part: round(gib, 3) for part, gib in [*memory.plain().items(), ("peak", memory.peak)]},
        "hardware": {
            "name": machine.gpus[0].name if machine.gpus else "cpu",
            "count": 1 if machine.gpus else machine.cpu_cores,
            "vram_gib": room,
            "usd_per_hour": 0.0,
        },
        "batch": {
            "per_device": recipe.micro_batch,
            "accumulation": recipe.batch // recipe.micro_batch,
            "effective": recipe.batch,
        },
        "hours": hours,
        "usd": 0.0,
        "alternatives": [],
        "warnings": warnings,
    }


def _described(name: str, revision: str, warnings: list[str]) -> BaseModel:
    """The model as far as its config.json and, where they lie beside it, the headers of its weights tell."""
    from agents.base_model import BaseModel, parameters_of, read_config
    from agents.trainer.footprint import dense_parameters

    folder, config = read_config(name, revision)
    parameters = parameters_of(folder)
    if not parameters:
        parameters = dense_parameters(config)
        warnings.append("the weights were counted from config.json, as those of a Llama-like model")
    return BaseModel(
        name=name, folder=str(folder), revision=revision, parameters=parameters, architecture="", config=config
    )


def _method(method: str, data: Files | None) -> str:
    """`auto` made definite by what the rows are made for. Raises BadInput for a method without a recipe."""
    if method not in METHODS:
        raise BadInput(f"there is no recipe for the method `{method}`; give {', '.join(METHODS)}")
    if method != "auto":
        return method
    from agents.data_engineer.formats.tables import read_sources, trains

    return "dpo" if data is not None and "dpo" in trains(read_sources(_paths(data))) else "sft"


def _first_recipe(method: str, parameters: int) -> Recipe:
    """The recipe of the built-in library that a run would try first."""
    from agents.brain import Brief, Move
    from agents.researcher import playbook

    goal = parse_goal({"text": "plan", "method": method}, Path.cwd())
    return playbook.propose(Brief(goal=goal, move=Move.RESEARCH, parameters=parameters)).recipes[0]


def _hours(model: BaseModel, recipe: Recipe, data: Files | None, warnings: list[str]) -> float | None:
    """Of training on all rows of the data, on this machine's processor; None where nothing tells them."""
    from agents.jobs.hardware import local_hardware
    from agents.trainer.footprint import CHARACTERS_PER_TOKEN, matrix_gflops, training_estimate

    if data is None:
        warnings.append("the hours are not known without data")
        return None
    from agents.data_engineer.formats.tables import read_sources
    from agents.data_engineer.prepare import render

    characters = sum(len(render(row).text) for row in read_sources(_paths(data)))
    if local_hardware().gpus:
        warnings.append("the hours are not known: no training has been measured on this GPU")
        return None
    tokens = round(characters / CHARACTERS_PER_TOKEN)
    warnings.append(f"the hours are those of about {tokens:,} tokens, told from the text's length")
    return training_estimate(model, recipe, tokens, recipe.epochs, None, matrix_gflops()).hours


def _paths(data: Files) -> list[str]:
    files = [data] if isinstance(data, str | Path) else data
    return [str(Path(file).expanduser()) for file in files]


def evaluate(
    model: str | Path,
    benchmark: str | Path,
    *,
    metric: Metric = "auto",
    max_tokens: int = 256,
    approve: Literal["ask", "paid", "auto"] = "ask",
    seed: int = 0,
    decide: Decide | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Score a model on all items of a benchmark; the JSON of `postgrad eval --json`.

    `{benchmark, model, score, stderr, n, unit, epochs, answered, truncated, settings_digest, items, seconds, run_id}`.
    It is a run without experiments, so its job passes the gate like any other: give `decide`, or `approve="auto"`.

    Raises BadInput for a model or benchmark that cannot be used, Conflict where the run waits for an answer, and
    PostgradError where it ends without a score.
    """
    settings = settings or load_settings()
    goal = evaluation_goal(model, benchmark, metric=metric, max_tokens=max_tokens, approve=approve, seed=seed)
    summary = api.run(goal, decide=decide, on_event=on_event, settings=settings)
    if summary["status"] == "waiting":
        raise Conflict(
            f"run {summary['run_id']} waits for approval; give `decide`, or approve='auto', "
            f"or `postgrad approve {summary['run_id']}` it, then `postgrad eval --resume {summary['run_id']}`"
        )
    return evaluation_of(settings, summary["run_id"])


def evaluation_goal(
    model: str | Path, benchmark: str | Path, *, metric: str, max_tokens: int, approve: str, seed: int = 0
) -> Goal:
    """The goal of a run that scores a model and stops. Raises BadInput for values that a goal refuses."""
    table = {**api.benchmark_table(benchmark), "metric": metric, "max_tokens": max_tokens}
    goal = {
        "text": f"Score {Path(model).name} on {Path(benchmark).stem}",
        "base_model": str(model),
        "benchmark": [table],
        "limits": {"experiments": 0},
        "run": {"approve": approve, "seed": seed},
    }
    return api.as_goal(goal)


def evaluation_run(settings: Settings, run: str) -> str:
    """The id of an earlier evaluation. Raises BadInput for an unknown run, and for one that may do experiments."""
    from shared_memory.database import Database
    from shared_memory.runs import Runs

    row = Runs(Database.open(settings.database)).get(run)
    if Goal.model_validate(row.goal).limits.experiments:
        raise BadInput(f"run {row.run_id} does more than score a model; see `postgrad show {row.run_id}`")
    return row.run_id


def evaluation_of(settings: Settings, run_id: str) -> dict[str, Any]:
    """What a run without experiments has measured, over both parts of its benchmark.

    Raises PostgradError where it has no score.
    """
    from agents.evaluator.evaluation import read_items
    from agents.evaluator.statistics import summarise
    from postgrad.report.evidence import gather
    from shared_memory.database import Database

    evidence = gather(settings, Database.open(settings.database), run_id)
    if not evidence.results:
        error = evidence.row.error or f"the run is {evidence.row.status}"
        raise PostgradError(f"there is no score: {error}; `postgrad resume {run_id}` tries again")
    result = next(iter(evidence.results.values()))
    rows = read_items(Path(result.items))
    score, stderr, n = summarise([float(row["score"]) for row in rows])
    return {
        "benchmark": result.benchmark,
        "model": evidence.goal.base_model,
        "score": score,
        "stderr": stderr,
        "n": n,
        "unit": result.unit,
        "epochs": result.epochs,
        "answered": sum(bool(row["answered"]) for row in rows) / n,
        "truncated": sum(bool(row["truncated"]) for row in rows) / n,
        "settings_digest": result.settings_digest,
        "items": result.items,
        "seconds": result.seconds,
        "run_id": run_id,
    }
