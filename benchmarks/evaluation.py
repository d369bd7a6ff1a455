"""Measures what an evaluation job gains over inspect-ai's own `hf` provider, at the same answers and scores.

    python benchmarks/evaluation.py [--json] [--rounds 3] [--items 100] [--quick]

The model is SmolLM2-135M-Instruct as examples/quickstart/prepare.py makes it, the items are four-choice questions of
examples/quickstart/physics.jsonl, asked and scored by inspect-ai's `multiple_choice` and `choice`, 256 tokens an
answer. `postgrad` is all that an evaluation does: prompts, the job in a process of its own with its default settings,
and the marking of its answers. The others are `inspect_ai.eval` with the provider's do_sample=False; it stops at EOS
alone, and its batch is `max_connections`: its own 32, and all items at once. Every run is a process of its own, loading
included, and the arms take turns, in another order each round. The bar is the faster of inspect's, in float32 as the
checkpoint has it; `postgrad, default` is in the dtype that a job takes on this machine, against inspect's default,
which is again the checkpoint's.

Clocks are the wall and the processor, which other programs on the machine disturb less. Then: (a) the answers of one
run through `marking.mark` and through `inspect_ai.eval` with a model that says them again, for the metrics choice and
exact: all scores are the same; (b) in float32 with all items at once, as inspect has them, all outputs are
`generate`'s; with other batches, the score of at most one item in a hundred differs. Exits with 1 where one of these is
not reached. Needs the extras `train` and `eval`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from agents.evaluator import evaluation, scored  # noqa: E402
from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark  # noqa: E402
from agents.evaluator.scoring import marking, tasks  # noqa: E402
from shared_memory.goal import BenchmarkGoal  # noqa: E402
from shared_memory.records import Part  # noqa: E402

MODEL = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postgrad/models/SmolLM2-135M-Instruct"
ITEMS = ROOT / "examples" / "quickstart" / "physics.jsonl"
JOB = ROOT / "agents" / "evaluator" / "scripts" / "generate.py"
REACHED = 1.5
"""How many times as fast as the faster of inspect's arms."""
DIFFERENT = 0.01
"""Share of the items whose score may differ in other batches."""
MAX_TOKENS = 256
ARMS: dict[str, dict[str, Any]] = {
    "postgrad": {"dtype": "float32"},
    "inspect, batches of 32": {"inspect": 32, "dtype": "float32"},
    "inspect, all at once": {"inspect": 0, "dtype": "float32"},
    "postgrad, default": {"dtype": "auto"},
}
OTHER_BATCHES = {"all at once": 0, "batches of 16": 16}
"""Of float32 jobs beside `postgrad`, which has the default."""
CLOCKS = ("wall", "processor")

Scores = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="one round of 8 items, to try it")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        name, folder, settings = given.worker
        return worker(name, Path(folder), json.loads(settings))
    if not (MODEL / "model.safetensors").is_file():
        raise SystemExit("error: the model is not there; run `python examples/quickstart/prepare.py`")
    rounds, items = (1, 8) if given.quick else (given.rounds, given.items)
    with tempfile.TemporaryDirectory(prefix="postgrad-evaluation-") as folder:
        figures = measure(Path(folder), rounds, items)
    print(json.dumps(figures, indent=2) if given.json else told(figures))
    return 0 if figures["reached"] else 1


def measure(folder: Path, rounds: int, items: int) -> dict[str, Any]:
    rows = ITEMS.read_text(encoding="utf-8").splitlines(keepends=True)[:items]
    (folder / "items.jsonl").write_text("".join(rows), encoding="utf-8")
    runs: list[dict[str, Any]] = []
    for turn in range(rounds):
        names = list(ARMS)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            runs.append({"arm": name, "round": turn, **run(folder, f"{turn}-{name}", ARMS[name])})
    first = {name: next(each for each in runs if each["arm"] == name) for name in ARMS}
    batches = {f"batches of {evaluation.MICRO_BATCH}": first["postgrad"]}
    for name, count in OTHER_BATCHES.items():
        batches[name] = run(folder, name, {"dtype": "float32", "micro_batch": count or items})
    reference = first["inspect, all at once"]
    agreement = {
        "marking": replayed(folder, first["postgrad"]["answers"]),
        **{
            f"{what} as generate has them": {name: share(each[what], reference[what]) for name, each in batches.items()}
            for what in ("outputs", "scores")
        },
    }
    ratios = {
        "postgrad": ratio(runs, "postgrad"),
        "postgrad, default": ratio(runs, "postgrad, default"),
    }
    kept = ("arm", "round", *CLOCKS, "truncated", "score", "tokens")
    return {
        "items": items,
        "seconds": {name: {clock: median(runs, name, clock) for clock in CLOCKS} for name in ARMS},
        "times as fast": ratios,
        "agreement": agreement,
        "reached": is_reached(ratios, agreement),
        "runs": [{key: each.get(key) for key in kept} for each in runs],
    }


def is_reached(ratios: dict[str, Any], agreement: dict[str, Any]) -> bool:
    fast = all(ratios["postgrad"][clock]["median"] >= REACHED for clock in CLOCKS)
    same = all(each == 1 for each in agreement["marking"].values())
    exact = agreement["outputs as generate has them"]["all at once"] == 1
    return fast and same and exact and min(agreement["scores as generate has them"].values()) >= 1 - DIFFERENT


def ratio(runs: Sequence[dict[str, Any]], arm: str) -> dict[str, Any]:
    """How many times as fast as the faster of inspect's, round by round."""
    found: dict[str, Any] = {}
    for clock in CLOCKS:
        each = []
        for turn in sorted({entry["round"] for entry in runs}):
            took = {entry["arm"]: entry[clock] for entry in runs if entry["round"] == turn}
            each.append(min(seconds for name, seconds in took.items() if "inspect" in name) / took[arm])
        found[clock] = {"median": round(statistics.median(each), 2), "rounds": [round(value, 2) for value in each]}
    return found


def median(runs: Sequence[dict[str, Any]], arm: str, clock: str) -> float:
    return round(statistics.median(entry[clock] for entry in runs if entry["arm"] == arm), 1)


def share(ones: dict[str, Any], others: dict[str, Any]) -> float:
    """Of the items in which both agree."""
    return sum(ones[name] == others[name] for name in others) / len(others)


def run(folder: Path, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One evaluation from start to scores, in a process of its own: seconds by both clocks, and what came of it."""
    print(f"{name} …", file=sys.stderr, flush=True)
    work = folder / name.replace(" ", "-")
    work.mkdir()
    kind = "inspect" if "inspect" in settings else "postgrad"
    command = [sys.executable, __file__, "--worker", kind, str(work), json.dumps(settings)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"error: {name} failed: {done.stderr[-2000:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "processor": processor, **json.loads((work / "outcome.json").read_text())}


def environment() -> dict[str, str]:
    quiet = {
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    return {**os.environ, **quiet}


def worker(kind: str, work: Path, settings: dict[str, Any]) -> int:
    benchmark = load_benchmark(BenchmarkGoal(path=str(work.parent / "items.jsonl"), max_tokens=MAX_TOKENS))
    outcome = by_inspect(benchmark, work, settings) if kind == "inspect" else by_postgrad(benchmark, work, settings)
    (work / "outcome.json").write_text(json.dumps(outcome))
    return 0


def by_postgrad(benchmark: Benchmark, work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    (work / "prompts.jsonl").write_bytes(b"".join(evaluation.prompt_rows(benchmark, tuple(Part))))
    config = {"model": str(MODEL), "prompts": "prompts.jsonl", "micro_batch": evaluation.MICRO_BATCH} | settings
    (work / "config.json").write_text(json.dumps(config | {"max_tokens": MAX_TOKENS}))
    with (work / "log.txt").open("w") as log:
        subprocess.run([sys.executable, str(JOB), "--config", "config.json"], cwd=work, stdout=log, check=True)
    answers = scored.read_items(work / "out" / "answers.jsonl")
    marks = marking.mark(benchmark, map(marking.Answer.model_validate, answers))
    return {
        "scores": {row["id"]: row["score"] for row in marks},
        "outputs": {row["id"]: row["output"] for row in marks},
        "answers": answers,
        "tokens": sum(row["output_tokens"] for row in answers),
        "truncated": statistics.mean(row["truncated"] for row in marks),
        "score": statistics.mean(row["score"] for row in marks),
    }


def by_inspect(benchmark: Benchmark, work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    from inspect_ai.model import get_model

    count = settings["inspect"] or len(benchmark.items)
    model = get_model("hf/local", model_path=str(MODEL), do_sample=False, dtype=settings["dtype"], memoize=False)
    scores, outputs = evaluated(benchmark, model, work, count)
    return {"scores": scores, "outputs": outputs, "score": statistics.mean(scores.values())}


def evaluated(benchmark: Benchmark, model: Any, work: Path, count: int) -> tuple[Scores, dict[str, str]]:
    """Scores and outputs by `inspect_ai.eval` itself; `count` samples side by side."""
    import inspect_ai
    from inspect_ai.scorer import value_to_float

    task = tasks.task_of(benchmark)
    asked = inspect_ai.Task(dataset=list(task.samples.values()), solver=task.solver, scorer=task.scorer)
    (log,) = inspect_ai.eval(
        asked, model=model, max_tokens=benchmark.max_tokens, max_connections=count, max_samples=count,
        log_dir=str(work / "inspect"), display="none", score_display=False,
    )  # fmt: skip
    if log.status != "success":
        raise SystemExit(f"error: inspect-ai says {log.status}: {log.error}")
    samples = {str(sample.id): sample for sample in log.samples or ()}
    scores = {name: value_to_float()(next(iter(each.scores.values())).value) for name, each in samples.items()}
    return scores, {name: each.output.completion for name, each in samples.items()}


def replayed(folder: Path, answers: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Metric → share of the answers that get the same score from `marking.mark` as from `inspect_ai.eval`.

    For `exact` the right choice in words is the reference of every other item, and what the model said that of the
    others, so that both scores occur.
    """
    said = {row["id"]: row["output"] for row in answers}
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    exact = [
        {"id": row["Record ID"], "question": row["Question"],
         "answer": said[row["Record ID"]] if place % 2 else row["Correct Answer"]}
        for place, row in enumerate(rows)
    ]  # fmt: skip
    (folder / "exact.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exact), encoding="utf-8")
    same = {}
    for metric, name in (("choice", "items.jsonl"), ("exact", "exact.jsonl")):
        benchmark = load_benchmark(BenchmarkGoal.model_validate({"path": str(folder / name), "metric": metric}))
        ours = marking.mark(benchmark, map(marking.Answer.model_validate, answers))
        scores, _ = evaluated(benchmark, saying_again(benchmark, answers), folder / metric, 10)
        same[metric] = share({row["id"]: row["score"] for row in ours}, scores)
    return same


def saying_again(benchmark: Benchmark, answers: Sequence[dict[str, Any]]) -> Any:
    """inspect-ai's own model for such ends, with an answer for each of the benchmark's prompts."""
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    given = {(row["id"], row["epoch"]): row for row in answers}
    prompts = marking.prompts_of(benchmark, tuple(Part))
    known = {row["messages"][-1]["content"]: given[row["id"], row["epoch"]] for row in prompts}

    def reply(messages: list[Any], *_: Any) -> ModelOutput:
        row = known[messages[-1].text]
        stop = "max_tokens" if row["truncated"] else "stop"
        said = ModelOutput.from_content("mockllm/model", row["output"], stop_reason=stop)
        said.usage = ModelUsage()  # without one it counts tokens, with a tokenizer from the internet
        return said

    return get_model("mockllm/model", custom_outputs=reply, memoize=False)


def told(figures: dict[str, Any]) -> str:
    lines = [f"{figures['items']} items; seconds of the wall clock, and of the processor"]
    for name, took in figures["seconds"].items():
        lines.append(f"  {name:24} {took['wall']:8.1f} {took['processor']:8.1f}")
    for name, found in figures["times as fast"].items():
        both = " and ".join(f"{found[clock]['median']:.2f} ({clock})" for clock in CLOCKS)
        lines.append(f"  {name} is {both} times as fast as the faster of inspect's")
    agreement = figures["agreement"]
    for metric, same in agreement["marking"].items():
        lines.append(f"  the same score for {metric} from inspect_ai.eval: {same:.1%}")
    for name, same in agreement["scores as generate has them"].items():
        outputs = agreement["outputs as generate has them"][name]
        lines.append(f"  the same score as generate, {name}: {same:.1%}; the same output, word for word: {outputs:.1%}")
    return "\n".join([*lines, "reached" if figures["reached"] else "NOT reached"])


if __name__ == "__main__":
    sys.exit(main())
