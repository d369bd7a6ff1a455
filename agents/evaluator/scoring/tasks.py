"""A benchmark as inspect-ai has it: its samples, the solver that asks them and the scorer that marks the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from agents.evaluator.benchmarks import inspect_tasks
from agents.evaluator.benchmarks.items import AnyItem, Item, Message, TaskItem, TextItem
from agents.evaluator.scoring import graded, programs, scorers
from agents.evaluator.scoring.judge import Judge as Judge
from shared_memory.records import Part

if TYPE_CHECKING:
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessage
    from inspect_ai.scorer import Scorer
    from inspect_ai.solver import Solver

    from agents.evaluator.benchmarks.benchmark import Benchmark


@dataclass(frozen=True)
class Task:
    """Everything but the model."""

    samples: dict[tuple[str, int], Sample]
    """By id and epoch (from 1), in the benchmark's order."""
    solver: Solver
    scorer: Scorer


def task_of(benchmark: Benchmark, parts: Sequence[Part] = tuple(Part), judge: Judge | None = None) -> Task:
    """The task that some parts of a benchmark make. `judge` is needed to score metrics that a model decides on."""
    samples = {
        (item.id, epoch): sample_of(item, epoch)
        for item in benchmark.items
        if item.part in parts
        for epoch in range(1, benchmark.epochs + 1)
    }
    solver, scorer = _method(benchmark, judge)
    return Task(samples, solver, scorer)


def _method(benchmark: Benchmark, judge: Judge | None) -> tuple[Solver, Scorer]:
    from inspect_ai.scorer import choice
    from inspect_ai.solver import generate, multiple_choice

    match benchmark.metric:
        case "choice":
            return multiple_choice(cot=True), choice()
        case "exact":
            return generate(), scorers.exact_match()
        case "numeric":
            return generate(), scorers.numeric_match()
        case "regex":
            return generate(), scorers.pattern_match()
        case "calls":
            return generate(), scorers.same_calls()
        case "code":
            return generate(), programs.passes_its_tests()
        case "task":
            return inspect_tasks.method(benchmark.name, benchmark.local)
        case "rubric":
            return generate(), graded.meets_rubric(judge)
        case "pairwise":
            return generate(), graded.beats_baseline(judge)
        case "loss" | "preference":
            raise ValueError(f"{benchmark.name} is scored by {benchmark.metric}: it is read, and asks nothing")


def sample_of(item: AnyItem, epoch: int) -> Sample:
    """An item as it is asked in an epoch: from the second on, its choices stand in an order of that epoch's own.

    Choices that speak of one another keep their places (see `listed_choices.keep_their_places`).
    """
    from inspect_ai.dataset import Sample

    if isinstance(item, Item):
        choices, [answer] = shuffled(item, epoch)
        asked = f"{item.passage}\n\n{item.question}" if item.passage else item.question
        return Sample(id=item.id, input=asked, choices=choices, target=answer)
    if isinstance(item, TextItem):
        called = [call for message in item.completion for call in message.tool_calls]
        beside = {key: list(value) for key, value in (("tools", item.tools), ("calls", called)) if value}
        target = [item.reference]
    else:
        beside, target = {}, list(item.target)
    if isinstance(item, TaskItem) and item.choices:
        choices, target = shuffled(item, epoch)
    else:
        choices = []
    return Sample(
        id=item.id,
        input=[chat_message(message) for message in item.prompt],
        choices=choices or None,
        target=target,
        metadata={**item.metadata, **beside},
    )


def shuffled(item: Item | TaskItem, epoch: int) -> tuple[list[str], list[str]]:
    """The choices and the letters of the right ones in an epoch."""
    from agents.evaluator.benchmarks.listed_choices import keep_their_places

    order = list(range(len(item.choices)))
    if epoch > 1 and not keep_their_places(list(item.choices)):
        Random(f"{item.id} {epoch}").shuffle(order)
    letters = [item.answer] if isinstance(item, Item) else item.target
    right = [ascii_uppercase[order.index(ascii_uppercase.index(letter))] for letter in letters]
    return [item.choices[place] for place in order], right


PLAIN = "plain"
"""Key of a chat message's metadata: the message as the item has it."""


def chat_message(message: Message) -> ChatMessage:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageTool, ChatMessageUser

    kinds: dict[str, Any] = {
        "system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant,
        "tool": ChatMessageTool,
    }  # fmt: skip
    # As a chat template takes it: what inspect has no field for, or another form, is kept beside its own.
    made: ChatMessage = kinds[message.role](content=message.content, metadata={PLAIN: message.plain()})
    return made
