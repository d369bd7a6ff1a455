"""Stored answers get the scores that inspect-ai gives when its own model says them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark
from agents.evaluator.scoring import marking, tasks
from shared_memory.goal import BenchmarkGoal
from tests.conftest import QUICKSTART

SAID = (
    "F = 3 × 4 = 12.\nANSWER: {right}", "ANSWER: {right}", "ANSWER: {wrong}", "answer: {right}.", "**ANSWER: {right}**",
    "ANSWER: {wrong}\nNo: ANSWER: {right}", "ANSWER: {right}, or ANSWER: {wrong}", "ANSWER: E", "It is {right}", "",
    "{right}", "ANSWER: ${right}", "\\boxed{{{right}}}", "ANSWER: {right} and {wrong}", "ANSWER:\n{right}",
)  # fmt: skip
"""Over `right` and `wrong`: letters where there are choices, else the words of the reference and others."""


METRICS = ("choice", "exact")


def answered(metric: str, folder: Path) -> tuple[Benchmark, list[marking.Answer]]:
    """A benchmark of that metric, and answers of all kinds; both in files, too."""
    rows = [json.loads(line) for line in (QUICKSTART / "physics.jsonl").read_text(encoding="utf-8").splitlines()[:30]]
    words = {row["Record ID"]: (row["Correct Answer"], row["Incorrect Answer 1"]) for row in rows}
    if metric == "exact":
        rows = [{"id": row["Record ID"], "question": row["Question"], "answer": row["Correct Answer"]} for row in rows]
    path = folder / f"{metric}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    benchmark = load_benchmark(BenchmarkGoal.model_validate({"path": str(path), "metric": metric}))
    answers = []
    for number, ((name, epoch), sample) in enumerate(tasks.task_of(benchmark).samples.items()):
        right, wrong = words[name]
        if metric == "choice":
            right, wrong = str(sample.target), "ABCD"["ABCD".index(str(sample.target)) - 1]
        output = SAID[number % len(SAID)].format(right=right, wrong=wrong)
        cut = number % 4 == 0
        answers.append(marking.Answer(id=name, epoch=epoch, output=output, output_tokens=5, truncated=cut))
    file = folder / f"{metric}-answers.jsonl"
    file.write_text("".join(answer.model_dump_json() + "\n" for answer in answers), encoding="utf-8")
    return benchmark, answers


def test_marks_are_inspects_own(tmp_path: Path) -> None:
    asked = {metric: answered(metric, tmp_path) for metric in METRICS}
    # In a process of its own: inspect-ai leaves streams open, and warns of the libraries that it uses.
    command = [sys.executable, "-m", "tests.evaluator.inspect_marks", str(tmp_path), *METRICS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    for metric, (benchmark, answers) in asked.items():
        ours = {row["id"]: row["score"] for row in marking.mark(benchmark, answers)}
        assert len(ours) == 30
        assert ours == theirs[metric]
        assert 0.2 < sum(ours.values()) / len(ours) < 0.8
