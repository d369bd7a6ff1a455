"""What a certificate looks at: everything that a run's result stands on, as the graph has gathered it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.integrity.lineage import Lineage
from shared_memory.records import DatasetRecord, EvalResult, Job, JobSpec

Found = tuple[str, list[str], list[str]]
"""What a check comes to: what was looked at in one line, why it is violated, why it is suspect."""


@dataclass(frozen=True)
class Kept:
    """Something that has to be as it was, and how it is."""

    what: str
    then: str
    """Its digest; empty where none was noted."""
    now: str
    """Empty where it is gone."""


@dataclass(frozen=True)
class TrainingSet:
    """A data set that a model of the champion's lineage was trained on."""

    record: DatasetRecord
    copies: tuple[Kept, ...]
    """Where the trainings read it."""
    items: str = ""
    """Digest of what it has to have been searched for; empty where that is not known any more."""
    held_out: bool = False
    """Whether the rows to measure on were held out of it: then there is nothing to search for."""
    kept_apart: bool = True
    """Whether those rows were looked for in it."""


@dataclass(frozen=True)
class Program:
    """A script that a job of the champion's path has run."""

    title: str
    name: str
    text: str
    shipped: bool
    """Whether it is a file of this package, byte for byte."""
    shielded: bool = True
    """Whether it ran in a sandbox, if it is somebody else's."""


@dataclass(frozen=True)
class Measured:
    """A score, and the job that measured it; None where that is not on record."""

    result: EvalResult
    job: Job | None
    spec: JobSpec | None


@dataclass(frozen=True)
class Facts:
    """All that a certificate looks at."""

    champion: str
    promised: Mapping[str, str]
    """Benchmark → its digest before anything was measured."""
    benchmarks: Mapping[str, Benchmark]
    """As they are now."""
    lost: Mapping[str, str]
    """Benchmarks that cannot be read any more, and why."""
    measured: Sequence[Measured]
    """The baseline's scores and the champion's."""
    lineages: Sequence[Lineage] = ()
    kept: Sequence[Kept] = ()
    """Base and trained weights."""
    training_sets: Sequence[TrainingSet] = ()
    programs: Sequence[Program] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    """Files of the delivered model in which answers could lie."""
    code: Sequence[str] = ()
    """Programs in the delivered model that the base does not have."""
    teachers: Sequence[tuple[str, bool]] = ()
    """Language models that wrote rows, and whether they are hosted."""
    hosted_teacher: bool = True
    """Whether the goal lets a hosted one do so."""
    unknown: Sequence[str] = ()
    """What could not be looked at."""
