"""One evaluation by each metric: the job that is asked for, what its output must hold, and the scores it comes to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.base_model import find_base_model
from agents.evaluator import evaluation, scored
from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark
from shared_memory.errors import PostgradError
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.recipes import SftRecipe
from shared_memory.records import EvalResult, Experiment, Job, JobSpec, JobState, Part
from shared_memory.run_paths import RunPaths
from tests.evaluator.test_benchmarks import row

METRICS = ("choice", "exact", "loss", "preference")
GOAL = Goal(text="toy goal")


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


def benchmark_of(folder: Path, metric: str) -> Benchmark:
    """Ten items, four of which select."""
    columns = {
        "choice": row,
        "exact": lambda n: {"question": f"{n} + 1?", "answer": str(n + 1)},
        "loss": lambda n: {"prompt": f"{n} + 1?", "completion": str(n + 1)},
        "preference": lambda n: {"prompt": f"{n} + 1?", "chosen": str(n + 1), "rejected": str(n)},
    }[metric]
    rows = [{**columns(n), "id": f"r{n}", "part": "selection" if n < 4 else "report"} for n in range(10)]
    path = folder / f"{metric}.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    return load_benchmark(BenchmarkGoal(path=str(path), max_tokens=16))


def ask(benchmark: Benchmark, model: Path, paths: RunPaths, trained: str = "", parts: Any = tuple(Part)) -> JobSpec:
    experiment = None
    if trained:
        recipe = SftRecipe(id="r")
        experiment = Experiment(id="e1", parent="baseline", change="x", recipe=recipe, dataset="d1", model=trained)
    return evaluation.evaluation_job(
        benchmark, parts, name="e1" if trained else "baseline", experiment=experiment, delivered="",
        model=find_base_model(str(model)), goal=GOAL, paths=paths, seconds_an_item=None,
    )  # fmt: skip


def carry_out(spec: JobSpec, paths: RunPaths) -> Job:
    """The job's real script, in its folder."""
    folder = paths.fill_job_folder(spec.digest[:8], spec.files, json.dumps(spec.config))
    command = [sys.executable, spec.script, "--config", "config.json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return Job(
        key=spec.digest[:8], spec_digest=spec.digest, purpose=spec.purpose, experiment=spec.experiment,
        folder=str(folder), state=JobState.SUCCEEDED, seconds=10.0,
    )  # fmt: skip


def a_trained_model(folder: Path, quality: float) -> str:
    """What the jobs that take no time score by `quality`."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "quality.json").write_text(json.dumps({"quality": quality}))
    return str(folder)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.slow
def test_a_real_evaluation_scores_both_parts_by_its_metric(
    metric: str, tiny_model: Path, tmp_path: Path, paths: RunPaths
) -> None:
    benchmark = benchmark_of(tmp_path, metric)
    spec = ask(benchmark, tiny_model, paths)
    job = carry_out(spec, paths)
    assert scored.fault_of_output(job, spec, paths) == ""
    results = {result.part: result for result in scored.collect(job, spec, benchmark, GOAL)}
    assert {part: result.n for part, result in results.items()} == {Part.SELECTION: 4, Part.REPORT: 6}
    loss = metric == "loss"
    for result in results.values():
        assert (result.unit, result.higher_is_better) == (("nats", False) if loss else ("fraction", True))
        assert (4 < result.score < 8) if loss else (0 <= result.score <= 1)
        assert result.answered == 1.0 or metric in ("choice", "exact")
        assert result.settings_digest == evaluation.settings_digest(benchmark, spec)


@pytest.mark.usefixtures("noop_jobs")
@pytest.mark.parametrize("metric", METRICS)
def test_a_better_model_is_claimed_to_be_better_on_the_side_that_the_metric_says(
    metric: str, tiny_model: Path, tmp_path: Path, paths: RunPaths
) -> None:
    benchmark = benchmark_of(tmp_path, metric)
    reports: list[EvalResult] = []
    for trained in ("", a_trained_model(tmp_path / "e1", 0.9)):
        spec = ask(benchmark, tiny_model, paths, trained)
        job = carry_out(spec, paths)
        assert scored.fault_of_output(job, spec, paths) == ""
        reports += [r for r in scored.collect(job, spec, benchmark, GOAL) if r.part is Part.REPORT]
    claimed = scored.claim(reports[0], reports[1], benchmark)
    assert claimed.win
    assert (claimed.unit, claimed.higher_is_better) == (reports[1].unit, reports[1].higher_is_better)
    assert claimed.delta == pytest.approx(-0.7) if metric == "loss" else claimed.delta > 0.3


@pytest.mark.usefixtures("noop_jobs")
def test_scores_by_different_settings_are_not_compared(tiny_model: Path, tmp_path: Path, paths: RunPaths) -> None:
    benchmark = benchmark_of(tmp_path, "loss")
    spec = ask(benchmark, tiny_model, paths)
    result = scored.collect(carry_out(spec, paths), spec, benchmark, GOAL)[0]
    smaller = spec.model_copy(update={"config": spec.config | {"batch_tokens": 512}})
    other = result.model_copy(update={"settings_digest": evaluation.settings_digest(benchmark, smaller)})
    with pytest.raises(PostgradError, match="measured with different settings"):
        scored.claim(result, other, benchmark)


@pytest.mark.usefixtures("noop_jobs")
@pytest.mark.parametrize(
    ("metric", "score", "fault"),
    [
        ("loss", 7.5, ""),
        ("loss", float("nan"), "no finite number from 0 to inf"),
        ("loss", float("inf"), "no finite number from 0 to inf"),
        ("loss", -0.1, "no finite number from 0 to inf"),
        ("preference", 7.5, "no finite number from 0 to 1"),
    ],
)
def test_a_score_that_the_metric_cannot_have_is_a_fault(
    metric: str, score: float, fault: str, tiny_model: Path, tmp_path: Path, paths: RunPaths
) -> None:
    spec = ask(benchmark_of(tmp_path, metric), tiny_model, paths)
    job = carry_out(spec, paths)
    output = Path(job.folder) / "out" / "items.jsonl"
    first, *others = scored.read_items(output)
    output.write_text("".join(json.dumps(line) + "\n" for line in [first | {"score": score}, *others]))
    found = scored.fault_of_output(job, spec, paths)
    assert fault in found
    assert bool(found) == bool(fault)
    output.write_text("".join(json.dumps(line) + "\n" for line in others))
    assert "it scored 9 of 10 items" in scored.fault_of_output(job, spec, paths)


@pytest.mark.usefixtures("noop_jobs")
def test_only_items_of_the_asked_parts_are_in_the_job(tiny_model: Path, tmp_path: Path, paths: RunPaths) -> None:
    spec = ask(benchmark_of(tmp_path, "preference"), tiny_model, paths, parts=(Part.SELECTION,))
    items = scored.read_items(paths.stored(spec.files["items.jsonl"]))
    assert [item["id"] for item in items] == ["r0", "r1", "r2", "r3"]
    assert spec.config["metric"] == "preference"


@pytest.mark.usefixtures("noop_jobs")
def test_the_measured_time_is_that_of_the_benchmark_that_is_asked_for(
    tiny_model: Path, tmp_path: Path, paths: RunPaths
) -> None:
    results = []
    for metric, seconds in (("loss", 5.0), ("exact", 20.0)):
        benchmark = benchmark_of(tmp_path, metric)
        spec = ask(benchmark, tiny_model, paths)
        job = carry_out(spec, paths).model_copy(update={"seconds": seconds})
        results += scored.collect(job, spec, benchmark, GOAL)
    assert scored.seconds_an_item(results, "loss") == 0.5
    assert scored.seconds_an_item(results) == 2.0
    assert scored.seconds_an_item(results, "choice") is None
