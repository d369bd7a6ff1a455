"""Two roles' crafts on their own, without a goal file: audit data, evaluate a model."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from postgrad import api
from postgrad.decide import Decide
from postgrad.events import Event
from shared_memory.errors import BadInput, Conflict, PostgradError
from shared_memory.goal import Goal
from shared_memory.settings import Settings, load_settings

if TYPE_CHECKING:
    from agents.data_engineer.checks.stream import Progress
    from agents.data_engineer.contamination.benchmark_texts import BenchmarkText
    from agents.evaluator.scoring.tally import Tally
    from shared_memory.records import EvalResult

Files = str | Path | Sequence[str | Path]


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
    from agents.evaluator.benchmarks.benchmark import load_benchmark
    from graph.clean_hands import texts_of
    from shared_memory.goal import BenchmarkGoal

    return list(texts_of(load_benchmark(BenchmarkGoal.model_validate(api.benchmark_table(name)))))


def _names(data: Files) -> list[str]:
    """Files and folders with `~` made out; a Hub id stays what it is."""
    names = [data] if isinstance(data, str | Path) else data
    return [str(Path(name).expanduser()) if str(name).startswith("~") else str(name) for name in names]


class Evaluating(TypedDict, total=False):
    """How a model is scored, under the names of the command line's flags; None takes what the benchmark says."""

    path: str | Path | None
    """Of a benchmark by name: a local copy of its data; with engine lighteval, the Python file of its tasks."""
    metric: str | None
    """See `BenchmarkGoal.metric`, like the others of the benchmark."""
    max_tokens: int | None
    epochs: int | None
    limit: int | None
    decoding: str | None
    """auto | greedy | model"""
    chat_template: str | Path | None
    engine: str | None
    """inspect | lighteval"""
    judge: str | None
    """A language model that grades what no rule can."""
    judge_api_base: str | None
    on: str | None
    """local | hf | slurm | api"""
    api_base: str | None
    """Address of a server that has the model: then `on` is api."""
    revision: str | None
    flavor: str | None
    sandbox: str | None
    """auto | none"""
    usd: float | None
    hours: float | None
    llm_tokens: int | None
    approve: str | None
    """ask | paid | auto"""
    seed: int | None


def evaluate(
    model: str | Path,
    benchmark: str | Path,
    *,
    decide: Decide | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
    **options: Unpack[Evaluating],
) -> dict[str, Any]:
    """Score a model on all items of a benchmark; the JSON of `postgrad eval --json`.

    `model` is a folder, a Hub id, or with `on="api"` the LiteLLM name of a model that others serve. `benchmark` is a
    name (`postgrad benchmarks` lists them), a file, or a data set on the Hub.

    `{benchmark, model, score, stderr, n, unit, epochs, clusters, answered, truncated, unparsed, completed, by_part,
    by_category, judge, settings_digest, items, seconds, run_id}`. It is a run without experiments, so its job passes
    the gate like any other: give `decide`, or `approve="auto"`.

    Raises BadInput for a model, benchmark or option that cannot be used, Conflict where the run waits for an answer,
    and PostgradError where it ends without a score, or with one that its own certificate contradicts.
    """
    settings = settings or load_settings()
    goal = evaluation_goal(model, benchmark, **options)
    summary = api.run(goal, decide=decide, on_event=on_event, settings=settings)
    if summary["status"] == "waiting":
        raise Conflict(
            f"run {summary['run_id']} waits for approval; give `decide`, or approve='auto', "
            f"or `postgrad approve {summary['run_id']}` it, then `postgrad eval --resume {summary['run_id']}`"
        )
    scored = evaluation_of(settings, summary["run_id"])
    if summary["status"] == "failed":
        raise PostgradError(f"the score cannot be trusted: {summary['error']}")
    return scored


_SECTIONS = {
    "judge": {"judge": "model", "judge_api_base": "api_base"},
    "limits": {"usd": "usd", "hours": "hours", "llm_tokens": "llm_tokens"},
    "run": {key: key for key in ("on", "api_base", "flavor", "sandbox", "approve", "seed")},
    "benchmark": {
        key: key for key in ("path", "metric", "max_tokens", "epochs", "limit", "decoding", "chat_template", "engine")
    },
}
"""Section of the goal file → option → key."""


def evaluation_goal(model: str | Path, benchmark: str | Path, **options: Unpack[Evaluating]) -> Goal:
    """The goal of a run that scores a model and stops. Raises BadInput for values that a goal refuses."""
    given = {
        key: str(value) if isinstance(value, Path) else value for key, value in options.items() if value is not None
    }
    if given.get("api_base"):
        given.setdefault("on", "api")
    known = {"revision", *(key for keys in _SECTIONS.values() for key in keys)}
    if unknown := sorted(given.keys() - known):
        raise BadInput(f"`{unknown[0]}` is no option of an evaluation; known: {', '.join(sorted(known))}")
    table = {
        section: {key: given[option] for option, key in keys.items() if option in given}
        for section, keys in _SECTIONS.items()
    }
    by_name = {"name": str(benchmark)} if given.get("engine") == "lighteval" else api.benchmark_table(benchmark)
    return api.as_goal(
        {
            **table,
            "text": f"Score {Path(model).name} on {Path(benchmark).stem}",
            "base_model": str(model),
            "revision": given.get("revision", ""),
            "benchmark": [{**by_name, **table["benchmark"]}],
            "limits": {**table["limits"], "experiments": 0},
        }
    )


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
    from agents.evaluator.scored import read_items
    from agents.evaluator.scoring.tally import by_category, tally
    from postgrad.report.evidence import gather
    from shared_memory.database import Database

    evidence = gather(settings, Database.open(settings.database), run_id)
    if not evidence.results:
        error = evidence.row.error or f"the run is {evidence.row.status}"
        raise PostgradError(f"there is no score: {error}; `postgrad resume {run_id}` tries again")
    result = next(iter(evidence.results.values()))
    rows = read_items(Path(result.items))
    found, categories = tally(rows), by_category(rows)
    return {
        "benchmark": result.benchmark,
        "model": evidence.goal.base_model,
        **found.plain(),
        "score": max(0.0, found.score),
        "unit": result.unit,
        "by_part": {each.part.value: _score(each) for each in evidence.results.values()},
        "by_category": {name: _score(tally(group)) for name, group in categories.items() if len(categories) > 1},
        "judge": result.judge,
        "settings_digest": result.settings_digest,
        "items": result.items,
        "seconds": result.seconds,
        "run_id": run_id,
    }


def _score(of: EvalResult | Tally) -> dict[str, Any]:
    return {"score": max(0.0, of.score), "stderr": of.stderr, "n": of.n}
