"""Prompts out of a task's solver, marks out of its scorer; the model in between may be anywhere.

The job that runs the model is given prompts and gives answers: it meets neither a right answer nor a score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agents.evaluator.benchmarks import inspect_tasks, rubrics
from agents.evaluator.scoring import calls, graded, programs, repetition, scorers, tasks
from agents.evaluator.scoring import judge as grading
from agents.evaluator.scoring.tasks import PLAIN, Judge, Task, task_of
from shared_memory.errors import PostgradError
from shared_memory.record import Record, canonical_digest
from shared_memory.records import Part

if TYPE_CHECKING:
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessage
    from inspect_ai.solver import TaskState

    from agents.evaluator.benchmarks.benchmark import Benchmark

AT_ONCE = 8
"""Answers that are marked side by side: a judge is waited for."""

T = TypeVar("T")


class Answer(Record):
    """What a model said to one prompt; a line of `out/answers.jsonl`."""

    id: str
    epoch: int
    output: str
    output_tokens: int
    """Generated, the one that ends the turn included."""
    prompt_tokens: int = 0
    truncated: bool
    """The token limit was met before the model ended its turn."""


class _Asked(Exception):
    """Ends a solver at the moment at which it wants the model."""


def prompts_of(benchmark: Benchmark, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """What a model is asked: `{"id", "epoch", "messages", "tools" (where there are some)}` for every item and epoch."""
    task = task_of(benchmark, parts)

    async def ask(key: tuple[str, int]) -> dict[str, Any]:
        asked: list[dict[str, Any]] = []

        async def record(state: TaskState, *_: Any, **__: Any) -> TaskState:
            asked.append({"id": key[0], "epoch": key[1], "messages": [_plain(each) for each in state.messages]})
            raise _Asked

        try:
            await task.solver(_state(benchmark, key, task.samples[key]), record)
        except _Asked:
            tools = (task.samples[key].metadata or {}).get("tools")
            return asked[0] | ({"tools": tools} if tools else {})
        raise PostgradError(f"the solver of {benchmark.name} asks no model")

    return _all(ask, list(task.samples))


def mark(benchmark: Benchmark, answers: Iterable[Answer], judge: Judge | None = None) -> list[dict[str, Any]]:
    """The item records of a benchmark's answers, in the benchmark's order: see `EvalResult.items`.

    Raises PostgradError for an answer to nothing that the benchmark asks, and where a judge gives no verdict.
    """
    given = {(answer.id, answer.epoch): answer for answer in answers}
    items = {item.id: item for item in benchmark.items}
    if any(name not in items for name, _ in given):
        raise PostgradError(f"{benchmark.name} was changed while it was measured; start a new run")
    task = task_of(benchmark, tuple({items[name].part for name, _ in given}), judge)

    async def one(key: tuple[str, int]) -> dict[str, Any]:
        answer, item = given[key], items[key[0]]
        value, said = await _marked(benchmark, task, key, answer)
        return {
            "id": item.id,
            "part": item.part.value,
            "category": item.category,
            "cluster": item.cluster,
            "epoch": answer.epoch,
            "score": value,
            "answered": bool(said),
            "truncated": answer.truncated,
            "answer": said or None,
            "output": answer.output,
            "output_tokens": answer.output_tokens,
        }

    return _all(one, [key for key in task.samples if key in given])


async def _marked(benchmark: Benchmark, task: Task, key: tuple[str, int], answer: Answer) -> tuple[float, str]:
    """The value of an answer, and what was taken for it."""
    from inspect_ai.model import ChatMessageAssistant, ModelOutput
    from inspect_ai.scorer import Target, value_to_float

    sample = task.samples[key]

    async def replay(state: TaskState, *_: Any, **__: Any) -> TaskState:
        if state.output.choices:
            raise PostgradError(f"{benchmark.name} goes on after the first answer, which is not part of this version")
        state.output = ModelOutput.from_content(
            str(state.model), answer.output, stop_reason="max_tokens" if answer.truncated else "stop"
        )
        state.messages.append(ChatMessageAssistant(content=answer.output, source="generate"))
        return state

    state = await task.solver(_state(benchmark, key, sample), replay)
    score = await task.scorer(state, Target(sample.target))
    if score is None:
        raise PostgradError(f"{benchmark.name} gave no score to item {key[0]}; look at its scorer")
    value = score.value[benchmark.value] if isinstance(score.value, dict) else score.value
    return value_to_float()(value), str(score.answer or "")


def _state(benchmark: Benchmark, key: tuple[str, int], sample: Sample) -> TaskState:
    from inspect_ai.model import ChatMessageUser, ModelName
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState

    given = sample.input
    messages: list[ChatMessage] = [ChatMessageUser(content=given)] if isinstance(given, str) else list(given)
    return TaskState(
        model=ModelName("postgrad/model"),
        sample_id=key[0],
        epoch=key[1],
        input=given,
        messages=messages,
        target=Target(sample.target),
        choices=sample.choices,
        metadata=dict(sample.metadata or {}),
    )


def _plain(message: ChatMessage) -> dict[str, Any]:
    """A message as chat templates take it; one that the solver left alone is as the item has it."""
    kept: dict[str, Any] = (message.metadata or {}).get(PLAIN, {})
    return kept if kept.get("content") == message.text else {"role": message.role, "content": message.text}


def _all(do: Callable[[tuple[str, int]], Coroutine[Any, Any, T]], keys: Sequence[tuple[str, int]]) -> list[T]:
    """The outcomes of all keys, in their order, a few at a time; the first exception ends it."""
    import anyio

    async def run() -> list[T]:
        outcomes: dict[tuple[str, int], T] = {}
        limiter = anyio.Semaphore(AT_ONCE)

        async def limited(key: tuple[str, int]) -> None:
            async with limiter:
                outcomes[key] = await do(key)

        async with anyio.create_task_group() as group:
            for key in keys:
                group.start_soon(limited, key)
        return [outcomes[key] for key in keys]

    try:
        return anyio.run(run)
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group


def versions(benchmark: Benchmark | None = None) -> dict[str, str]:
    """Package → version of what asks and marks here; of a benchmark, or what it is for all of them."""
    packages = ["inspect-ai", *(["inspect-evals"] if benchmark and benchmark.is_of_inspect_evals else [])]
    return {package: version(package) for package in packages}


def scoring_digest() -> str:
    """sha256 of the code that asks and marks, with the versions of what it stands on."""
    modules = (tasks, inspect_tasks, scorers, calls, programs, graded, grading, rubrics, repetition)
    files = [Path(str(module.__file__)) for module in modules] + [Path(__file__), *grading.PROMPTS.glob("*.md")]
    code = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return canonical_digest({"code": code, "versions": versions()})
