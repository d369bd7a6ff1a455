"""What the graph carries from node to node: plain data, validated before it is written.

A value that a node got wrong would be checkpointed and make the run unreadable, so nodes return through `update()` or
`jobs_update()`, which check every channel first and turn records into plain data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from agents.brain import Move
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.records import (
    ComparisonResult,
    DatasetRecord,
    Diagnosis,
    EvalResult,
    Experiment,
    Finding,
    Job,
    JobSpec,
    Recipe,
    Record,
)

LEFT_TO_THE_JOURNAL = {"categories": {}, "versions": {}, "items_digest": ""}
"""Of a result: what no move is chosen by; see `briefing.in_full`."""

Plain = dict[str, Any]
ById = dict[str, Plain]


def merge(old: ById, new: ById) -> ById:
    """Reducer of the record channels: by id, the newer wins, so that writing twice changes nothing."""
    return {**old, **new}


class Stock(TypedDict):
    """What the router knows of the run's means; taken anew each time it is asked."""

    seconds_left: float
    """Until the goal's hours or deadline are used up."""
    seconds_kept: float
    """Of those, what the last evaluation and save need."""
    jobs_left: int
    usd_left_micro: int
    """Until the goal's dollars are spent or held."""
    usd_kept_micro: int
    """Of those, what the last evaluation and save need."""
    cancelled: bool


class RunState(TypedDict, total=False):
    goal: Plain
    benchmarks: ById
    """Benchmark → digest, number of selection and of report items, settings digest."""
    held_out: list[Plain]
    """Where the goal names no benchmark: the BenchmarkGoals that the rows held out make."""
    trains: list[str]
    """Methods that the goal's own rows can train."""
    stock: Stock
    move: str
    subject: str
    """The experiment that the move is about."""
    proposal: Plain
    pending: list[Plain]
    """JobSpecs on their way through the door."""
    finished: list[Plain]
    """Jobs that came out of it."""
    findings: Annotated[ById, merge]
    recipes: Annotated[ById, merge]
    datasets: Annotated[ById, merge]
    experiments: Annotated[ById, merge]
    results: Annotated[ById, merge]
    claims: Annotated[ById, merge]
    """Benchmark → the comparison of champion and baseline on the report items."""
    generated: list[str]
    model: str
    """Folder of the delivered model."""
    delivered: str
    """The experiment in it."""
    published: str
    """Where the training data were published."""
    pushed: str
    """Where the model was published."""
    given_up: list[str]
    """Moves of the end whose job did not succeed."""
    exhausted: list[str]
    """`move:experiment` for which a role had nothing (more) to propose."""
    reopened: int
    """How often a person resumed the run after it had failed: a failed job gets one more attempt each time."""
    halt: str
    """Why the search ends early: `over_budget`, `timed_out`, `cancelled`, `failed`; empty while it goes on."""
    error: str
    """The one line behind `halt`."""
    status: str
    outcome: str


BY_ID = ("findings", "recipes", "datasets", "experiments", "results", "claims")
"""The channels of RunState whose reducer merges by id."""


class JobsState(TypedDict, total=False):
    """State of the door to compute. It shares only channels without a reducer with RunState."""

    goal: Plain
    stock: Stock
    move: str
    pending: list[Plain]
    finished: list[Plain]
    reopened: int
    halt: str
    error: str
    answers: ById
    """Spec digest → what the person or the policy said."""
    admitted: list[str]
    """Digests of the specs that may run."""
    tracked: ById
    """Submission key → Job."""
    offsets: dict[str, int]
    """Submission key → bytes of its log already read."""
    preflights: ById
    """Spec digest → what was found before anybody was asked about it."""
    diagnoses: ById
    """Submission key → why the job failed."""
    recovered: list[Plain]
    """Failed attempts that another job took the place of: `job`, `spec` and `diagnosis` of each."""


@with_config(ConfigDict(extra="forbid"))
class _RunChannels(TypedDict, total=False):
    goal: Goal
    benchmarks: ById
    held_out: list[BenchmarkGoal]
    trains: list[str]
    stock: Stock
    move: Move
    subject: str
    proposal: Plain
    pending: list[JobSpec]
    finished: list[Job]
    findings: dict[str, Finding]
    recipes: dict[str, Recipe]
    datasets: dict[str, DatasetRecord]
    experiments: dict[str, Experiment]
    results: dict[str, EvalResult]
    claims: dict[str, ComparisonResult]
    generated: list[str]
    model: str
    delivered: str
    published: str
    pushed: str
    given_up: list[str]
    exhausted: list[str]
    reopened: int
    halt: str
    error: str
    status: str
    outcome: str


@with_config(ConfigDict(extra="forbid"))
class _JobsChannels(TypedDict, total=False):
    pending: list[JobSpec]
    finished: list[Job]
    halt: str
    error: str
    answers: ById
    admitted: list[str]
    tracked: dict[str, Job]
    offsets: dict[str, int]
    preflights: ById
    diagnoses: dict[str, Diagnosis]
    recovered: list[Plain]


_run: TypeAdapter[Any] = TypeAdapter(_RunChannels)
_jobs: TypeAdapter[Any] = TypeAdapter(_JobsChannels)


def update(**channels: Any) -> Plain:
    """A node's return value for RunState: validated, and plain.

    Raises pydantic.ValidationError for an unknown channel or a value of the wrong shape: a fault of the node.
    """
    plain: Plain = _run.dump_python(_run.validate_python(_plain(channels)), mode="json")
    return plain


def scores(results: Iterable[EvalResult]) -> dict[str, EvalResult]:
    """Results as the state carries them, by id: it is written at every step, and the journal has the rest."""
    return {result.id: result.model_copy(update=LEFT_TO_THE_JOURNAL) for result in results}


def jobs_update(**channels: Any) -> Plain:
    """The same for JobsState."""
    plain: Plain = _jobs.dump_python(_jobs.validate_python(_plain(channels)), mode="json")
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.plain()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
