"""Has inspect-ai's own model say answers that are given, and prints how `inspect_ai.eval` scores them.

`python -m tests.evaluator.inspect_marks FOLDER METRIC…`: METRIC.jsonl in it has the items, METRIC-answers.jsonl what
the model says. The logs get into it as well.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from agents.evaluator.benchmarks.benchmark import load_benchmark
from agents.evaluator.scored import read_items
from agents.evaluator.scoring import marking, tasks
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import Part


def scores(folder: Path, metric: str) -> dict[str, float]:
    import inspect_ai
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import value_to_float

    benchmark = load_benchmark(
        BenchmarkGoal.model_validate({"path": str(folder / f"{metric}.jsonl"), "metric": metric})
    )
    given = {row["id"]: row for row in read_items(folder / f"{metric}-answers.jsonl")}
    said = {row["messages"][-1]["content"]: given[row["id"]] for row in marking.prompts_of(benchmark, tuple(Part))}
    assert len(said) == len(given)

    def reply(messages: list[Any], *_: Any) -> ModelOutput:
        answer = said[messages[-1].text]
        stop = "max_tokens" if answer["truncated"] else "stop"
        output = ModelOutput.from_content("mockllm/model", answer["output"], stop_reason=stop)  # type: ignore[arg-type]
        output.usage = ModelUsage()  # without one it counts tokens, with a tokenizer from the internet
        return output

    task = tasks.task_of(benchmark)
    (log,) = inspect_ai.eval(
        inspect_ai.Task(dataset=list(task.samples.values()), solver=task.solver, scorer=task.scorer),
        model=get_model("mockllm/model", custom_outputs=reply, memoize=False),
        display="none",
        log_dir=str(folder / "logs"),
    )
    assert log.status == "success", log.error
    marks = {str(sample.id): next(iter((sample.scores or {}).values())).value for sample in log.samples or []}
    return {name: value_to_float()(mark) for name, mark in marks.items()}


if __name__ == "__main__":
    print(json.dumps({metric: scores(Path(sys.argv[1]), metric) for metric in sys.argv[2:]}))
