"""Runs benchmarks of the registry as inspect-ai itself does, its own data loading included, and prints what its model
was sent, what that said, and how it was scored.

`python -m tests.evaluator.inspect_reference FOLDER NAME…`: the Hub is HF_ENDPOINT; FOLDER takes logs and caches.
"""

from __future__ import annotations

import json
import re
import sys
from hashlib import sha256
from typing import Any

REPLIES = (
    "Thinking it over, I take the second.\nANSWER: B",
    "ANSWER: A",
    "ANSWER: B",
    "ANSWER: C",
    "Surely D.\n\nANSWER: D.",
    "I do not know.",
    "It is \\boxed{75}, that is\nANSWER: 75",
    "**ANSWER: 10**",
    "The answer is 1,014.\n\nANSWER: $1,014",
    "ANSWER: C, or rather\nANSWER: D",
    "",
)


def gpqa(name: str) -> Any:
    """GPQA as PostTrainBench asks it, with the choices in the order in which our items have them."""
    from inspect_ai import Task
    from inspect_ai.dataset import Sample, hf_dataset
    from inspect_ai.scorer import choice
    from inspect_ai.solver import multiple_choice

    from agents.evaluator.benchmarks.benchmark import load_benchmark
    from agents.evaluator.benchmarks.registry import entries
    from shared_memory.goal import BenchmarkGoal

    ours: dict[str, Any] = {item.id: item for item in load_benchmark(BenchmarkGoal(name=name)).items}

    def sample(row: dict[str, Any]) -> Sample:
        item = ours[row["Record ID"]]
        choices = [row["Correct Answer"], *(row[f"Incorrect Answer {number}"] for number in (1, 2, 3))]
        order = [choices.index(choice) for choice in item.choices]
        return Sample(
            input=row["Question"],
            choices=[choices[place] for place in order],
            target="ABCD"[order.index(0)],
            id=row["Record ID"],
        )

    entry = entries()[name]
    rows = hf_dataset(entry.source, name=entry.config, split="train", revision=entry.revision, sample_fields=sample)
    return Task(dataset=rows, solver=[multiple_choice(cot=True)], scorer=choice(), name=name)


def main(folder: str, *names: str) -> None:
    from inspect_ai import eval as run
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import value_to_float

    from agents.evaluator.benchmarks.registry import entries, named

    def reply(messages: list[Any], *_: Any) -> ModelOutput:
        text = messages[-1].text
        number = int(re.findall(r"\d+", text)[0])  # right where the toy rows have a number for an answer
        replies = [*REPLIES, f"ANSWER: {number - 2}", f"So:\n$$\n\\boxed{{{number + 70}}}\n$$"]
        said = ModelOutput.from_content("mockllm/model", replies[sha256(text.encode()).digest()[0] % len(replies)])
        said.usage = ModelUsage()  # without one it counts tokens, with a tokenizer from the internet
        return said

    asked = {}
    for name in names:
        entry = entries()[name]
        task = gpqa(name) if entry.reader == "rows" else named(entry.task)(**entry.task_args)
        (log,) = run(
            task, model=get_model("mockllm/model", custom_outputs=reply, memoize=False), display="none", log_dir=folder
        )
        assert log.status == "success", log.error
        asked[name] = [
            {
                "id": str(sample.id),
                "messages": [{"role": turn.role, "content": turn.text} for turn in sample.messages[:-1]],
                "output": sample.output.completion,
                "score": value_to_float()(next(iter(sample.scores.values())).value),
            }
            for sample in log.samples or []
        ]
    print(json.dumps(asked))


if __name__ == "__main__":
    main(*sys.argv[1:])
