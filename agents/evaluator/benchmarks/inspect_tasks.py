"""Benchmarks that inspect-evals has: its solvers ask and its scorers mark; their rows come through `published`."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.evaluator.benchmarks.items import Message, TaskItem
from agents.evaluator.benchmarks.published import paths_of, table_of
from agents.evaluator.benchmarks.registry import Entry, entry_of, named, why_unavailable
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import Part

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Dataset, Sample
    from inspect_ai.scorer import Scorer
    from inspect_ai.solver import Generate, Solver, TaskState

_building = threading.Lock()


def inspect_task(name: str, local: str = "") -> Task:
    """The task of a registry's entry with its data set, built once in a process.

    `local` is as of `paths_of`. Raises as that does, and Unavailable where what its scorer stands on is not installed.
    """
    found = Path(local)
    return _built(name, local, found.stat().st_mtime_ns if local and found.exists() else 0)


@lru_cache(maxsize=4)
def _built(name: str, local: str, changed: int) -> Task:
    entry = entry_of(name)
    if reason := why_unavailable(entry):
        raise Unavailable(f"{name} cannot be scored here: {reason}")
    with _rows_of(entry, local):
        made: Task = named(entry.task)(**entry.task_args)
    return made


def task_items(entry: Entry, local: str = "") -> tuple[TaskItem, ...]:
    """The samples of an entry's task, in its order, half of them in each part."""
    samples = list(inspect_task(entry.name, local).dataset)
    parts = _halves([str(sample.id) for sample in samples])
    return tuple(_item(sample, parts[str(sample.id)]) for sample in samples)


def method(name: str, local: str = "") -> tuple[Solver, Scorer]:
    """What asks and what marks."""
    task = inspect_task(name, local)
    scorers = task.scorer or []
    return _with_a_model(task.solver), scorers[0]


@contextmanager
def _rows_of(entry: Entry, local: str) -> Iterator[None]:
    """In this block inspect-ai's `hf_dataset` takes its rows from `published`.

    Tasks load their own data: over the network at every start, with minutes of back-off where it is away, and from
    nowhere but the Hub. Through here they are fetched once, at the registry's commit, or read from a local copy. It is
    the one function that all of them call.
    """
    import inspect_ai.dataset as module
    from inspect_ai.dataset import MemoryDataset

    def dataset(
        path: str,
        split: str,
        name: str | None = None,
        data_dir: str | None = None,
        sample_fields: Any = None,
        shuffle: bool | int = False,
        seed: int | None = None,
        shuffle_choices: bool | int | None = None,
        limit: int | None = None,
        **_: Any,
    ) -> Dataset:
        if path != entry.source:
            raise BadInput(f"{entry.name} takes rows from {path}, and the registry pins {entry.source}")
        rows = table_of(paths_of(entry, local, config=name or data_dir or "", split=split))
        if shuffle is not False:
            rows = [rows[place] for place in _order(len(rows), seed if shuffle is True else shuffle)]
        samples = [sample_fields(row) for row in rows[:limit]]
        made = MemoryDataset(samples, name=path, location=path, shuffled=shuffle is not False)
        if shuffle_choices is not None and shuffle_choices is not False:
            made.shuffle_choices(seed=None if shuffle_choices is True else shuffle_choices)
        return made

    with _building:
        theirs = module.hf_dataset
        module.hf_dataset = dataset  # type: ignore[assignment]
        try:
            yield
        finally:
            module.hf_dataset = theirs


def _order(rows: int, seed: int | None) -> list[int]:
    """The order in which `datasets` shuffles; it depends on the number of rows and the seed alone."""
    from datasets import Dataset

    order: list[int] = Dataset.from_dict({"place": list(range(rows))}).shuffle(seed=seed)["place"][:]
    return order


def _item(sample: Sample, part: Part) -> TaskItem:
    if sample.files or sample.setup or sample.sandbox:
        raise BadInput(f"{sample.id} is worked on in a sandbox over several turns, which is not part of this version")
    given = sample.input
    messages = [Message(role="user", content=given)] if isinstance(given, str) else list(map(_message, given))
    metadata = dict(sample.metadata or {})
    return TaskItem(
        id=str(sample.id),
        prompt=tuple(messages),
        choices=tuple(sample.choices or ()),
        target=tuple([sample.target] if isinstance(sample.target, str) else sample.target),
        metadata=metadata,
        category=str(metadata.get("subject") or ""),
        part=part,
    )


def _message(message: Any) -> Message:
    if not isinstance(message.content, str):
        raise BadInput("the task shows more than text, which is not part of this version")
    return Message(role=message.role, content=message.content)


def _halves(ids: Sequence[str]) -> dict[str, Part]:
    """Half of the items selects and half reports, by a hash of their ids: sets of 30 items must not be left to luck."""
    ranked = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: Part.SELECTION if place < len(ids) / 2 else Part.REPORT for place, name in enumerate(ranked)}


def _with_a_model(solver: Solver) -> Solver:
    """The solver, where a model is active: some ask it for its limits before they ask it anything."""
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.model._model import init_active_model

    model = get_model("mockllm/model")

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        init_active_model(model, GenerateConfig())  # of this asyncio task alone: it is a context variable
        return await solver(state, generate)

    return solve
