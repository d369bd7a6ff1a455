"""The nouns of a run, frozen: what the roles propose, what the graph carries, what the journal keeps.

Everything here crosses a boundary (a checkpoint, the database, a job folder, a report), so every record is immutable,
refuses unknown fields, and becomes plain JSON with `model_dump(mode="json")`. Money is integer micro-dollars, time is
seconds unless the name says hours, scores are fractions of 1.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared_memory.metric import Metric

MICRO_USD = 1_000_000
"""Micro-dollars in a dollar."""


def canonical_digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`: sorted keys, no white space, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def plain(self) -> dict[str, Any]:
        """The record as JSON-able plain data, which is what state and database hold."""
        return self.model_dump(mode="json")


class Finding(Record):
    """Something the researcher learned, and where."""

    id: str
    claim: str
    source: str
    """A citation a person can follow: arXiv id with section, URL, or file of the repository."""
    confidence: Literal["low", "medium", "high"] = "medium"


class Lora(Record):
    """A low-rank adapter [arXiv 2106.09685]."""

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str = "all-linear"


class Recipe(Record):
    """How to train: the method and every number that a result depends on."""

    id: str
    method: Literal["sft", "dpo"] = "sft"
    beta: float = Field(default=0.1, gt=0)
    """DPO: how strongly the model is held to its start [arXiv 2305.18290]; SFT has no use for it."""
    lora: Lora | None = Field(default_factory=Lora)
    """None trains all weights."""
    learning_rate: float = Field(default=2e-4, gt=0)
    epochs: int = Field(default=1, ge=1)
    """Passes over the training data in all, those of the experiment it continues included."""
    batch: int = Field(default=16, ge=1)
    """Effective batch: rows behind one optimizer step."""
    micro_batch: int = Field(default=8, ge=1)
    """Rows on the device at once; divides `batch`."""
    max_length: int = Field(default=1024, ge=8)
    """Tokens; the end of a longer row is cut off."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    lr_scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    packing: bool = False
    train_rows: int = Field(default=400, ge=1)
    """Rows to synthesise when the goal brings no data."""
    reason: str = ""
    source: str = ""
    findings: tuple[str, ...] = ()
    """Ids of the findings it rests on."""


class Step(Record):
    """One step of a data set's making, with what it let through."""

    name: str
    rows_in: int
    rows_out: int
    note: str = ""


class ContaminatedRow(Record):
    """A row in which a benchmark item was found, without the words of either."""

    row: str
    item: str
    rule: str
    score: float


class BenchmarkContamination(Record):
    """What was found of one benchmark."""

    items: int
    items_found: int
    rows_flagged: int
    rules: dict[str, int] = Field(default_factory=dict)
    """Rule → rows in which it found an item."""
    examples: tuple[ContaminatedRow, ...] = ()
    """The first of them."""


class ContaminationEvidence(Record):
    """A search of rows for benchmark items: what looked, for what, and what it found."""

    detector: str
    """Name and version; another version may find something else in the same rows."""
    rules: tuple[str, ...]
    embeddings: str = ""
    """What compared words where paraphrases were looked for; empty where they were not."""
    items_digest: str
    """sha256 over everything that the items say."""
    rows_checked: int
    rows_flagged: int
    benchmarks: dict[str, BenchmarkContamination] = Field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        """Benchmark → share of its items that were found."""
        return {name: entry.items_found / entry.items for name, entry in self.benchmarks.items()}


class DatasetRecord(Record):
    """Training data as it was used."""

    id: str
    source: str
    """What it was made from: file names, Hub ids or the generator."""
    revision: str = ""
    """The Hub's commit of a data set from there; of files, a digest of all of them."""
    path: str
    """JSONL as TRL takes it. sft: `prompt` and `completion`, or `text`; dpo, reward: `prompt`, `chosen` and `rejected`;
    kto: `prompt`, `completion` and `label`; grpo: `prompt` and `answer`; prompts and replies are lists of messages."""
    digest: str
    """sha256 of the file at `path`."""
    method: Literal["sft", "dpo", "grpo", "kto", "reward"] = "sft"
    """What its rows are laid out for."""
    rows: int
    steps: tuple[Step, ...] = ()
    licence: str = ""
    """As the cards of its sources have it, several joined with `, `; empty where they say nothing."""
    contamination: dict[str, float] = Field(default_factory=dict)
    """Benchmark name → share of its items found in the rows before they were removed."""
    evidence: ContaminationEvidence | None = None
    """What was searched for benchmark items, how, and what was found; None in records older than this."""
    findings: tuple[str, ...] = ()
    """What the audit had to say, one line each."""


class Purpose(StrEnum):
    """What a job is for."""

    GENERATION = "generation"
    TRAINING = "training"
    EVALUATION = "evaluation"
    MERGE = "merge"
    PUBLICATION = "publication"


class Estimate(Record):
    """What a job is expected to take, and the worst it may cost."""

    hours: float
    usd_micro: int = Field(ge=0)
    """Worst case: the price of the whole time-out."""
    memory_gib: float
    basis: str
    """Where the numbers come from, in words a person can judge."""


FREE_OF_SCOPE = ("micro_batch", "activation_checkpointing", "resume_from")
"""Keys of a job's config that change how much it takes, and not what it computes."""


class JobSpec(Record):
    """A job, completely: two specs with one digest do the same thing."""

    purpose: Purpose
    experiment: str
    """The experiment it belongs to; `baseline` and `data` for the runs before the first one."""
    title: str
    """One line for the person at the gate."""
    script: str
    """Name of the file among `files` that is run."""
    files: dict[str, str]
    """Name in the job folder → sha256 of its content, which the run's file store holds."""
    config: dict[str, Any]
    """Becomes config.json in the job folder."""
    benchmark: str = ""
    """Of an evaluation: the benchmark that it scores."""
    runner: Literal["local", "teacher", "publisher"] = "local"
    """Where it runs; `teacher` is a language model that writes rows and answers this process, which is the `publisher`
    of data sets itself."""
    flavor: str = "cpu"
    timeout_seconds: int = Field(gt=0)
    estimate: Estimate
    secrets: tuple[str, ...] = ()
    """Names of environment variables that the job may read; never their values."""
    sandbox: Literal["", "auto", "none"] = ""
    """How code is kept apart that is not our own: `auto` in a sandbox, and refused where there is none; `none` not at
    all, because the goal says so. Empty for our own scripts."""

    @property
    def digest(self) -> str:
        """sha256 over everything that decides what the job does and may cost: all but its title and its predictions."""
        return canonical_digest(
            self.model_dump(mode="json", exclude={"title": True, "estimate": {"hours", "memory_gib", "basis"}})
        )

    @property
    def scope(self) -> str:
        """sha256 over what a recovery must leave alone: all of the digest but FREE_OF_SCOPE, hardware, time and cost.

        Two specs of one scope compute the same mathematics; `batch`, the rows behind a weight update, is part of it.
        """
        plain = self.model_dump(mode="json", exclude={"title", "estimate", "flavor", "timeout_seconds"})
        plain["config"] = {key: value for key, value in self.config.items() if key not in FREE_OF_SCOPE}
        return canonical_digest(plain)


def submission_key(run_id: str, spec: JobSpec, attempt: int) -> str:
    """The label of one attempt at one job (32 hex digits): the same key is never submitted twice."""
    parts = (run_id, spec.experiment, spec.purpose.value, attempt, spec.digest)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class JobState(StrEnum):
    """What a runner knows of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Submitted perhaps: the answer got lost, and the backend does not list it."""

    @property
    def terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


REJECTED = "rejected: "
"""How the `error` of a job begins that a person refused; the reason follows."""


class Job(Record):
    """One attempt at a JobSpec."""

    key: str
    spec_digest: str
    purpose: Purpose
    experiment: str
    attempt: int = 1
    runner: str = "local"
    backend_id: str = ""
    folder: str = ""
    state: JobState = JobState.QUEUED
    exit_code: int | None = None
    seconds: float = 0.0
    """Running time by the backend's own record."""
    usd_micro: int = 0
    error: str = ""
    """One line: why it did not succeed."""
    result: dict[str, Any] = Field(default_factory=dict)
    """The `result` of the job's last line."""


class Envelope(Record):
    """How far a consent reaches without asking again: every attempt of one scope, together within these bounds."""

    scope: str = ""
    """`JobSpec.scope` of what was approved; empty reaches no further than the approved spec itself."""
    max_usd_micro: int = 0
    """For all attempts together, as the one that was approved."""
    max_hours: float = 0.0
    attempts: int = 1


class Decision(Record):
    """A consent, or its refusal, bound to one spec."""

    spec_digest: str
    approved: bool
    by: str
    """`person`, or `policy` where the goal's approval mode decided."""
    reason: str = ""
    envelope: Envelope = Field(default_factory=Envelope)
    parent: str = ""
    """Digest of the spec that the person saw, where this one was derived from it."""
    at: float = 0.0
    """Seconds since the epoch."""


class Part(StrEnum):
    """Which items of a benchmark: those that steer the search, or those that only report."""

    SELECTION = "selection"
    REPORT = "report"


class CategoryScore(Record):
    score: float
    n: int


class EvalResult(Record):
    """A model's score on one part of one benchmark, with everything needed to judge it."""

    experiment: str
    benchmark: str
    part: Part
    score: float
    """A fraction of 1, or nats a token where `unit` says so."""
    stderr: float
    n: int
    unit: Literal["fraction", "nats"] = "fraction"
    higher_is_better: bool = True
    epochs: int = 1
    """Resamples K of every item."""
    answered: float
    """Share of items with an answer in the asked form."""
    accuracy_given_answered: float
    truncated: float
    """Share of items whose output met the token limit."""
    categories: dict[str, CategoryScore] = Field(default_factory=dict)
    settings_digest: str
    """sha256 of benchmark, template, decoding and the evaluator's code."""
    seed: int = 0
    items: str
    """Path of the item records (JSONL)."""
    job: str
    """Submission key of the job that measured it."""
    seconds: float

    @property
    def id(self) -> str:
        return f"{self.experiment}/{self.benchmark}/{self.part}"

    @property
    def metric(self) -> Metric:
        return Metric(
            name=self.benchmark,
            value=self.score,
            stderr=self.stderr,
            n=self.n,
            higher_is_better=self.higher_is_better,
        )


class ComparisonResult(Record):
    """The one claim of a run: champion against baseline, paired on the report items."""

    benchmark: str
    experiment: str
    delta: float
    """Champion minus baseline, in the benchmark's unit."""
    ci_low: float
    ci_high: float
    p_value: float
    n: int
    unit: Literal["fraction", "nats"] = "fraction"
    higher_is_better: bool = True

    @property
    def win(self) -> bool:
        """Whether the whole interval lies on the better side of no difference."""
        return self.ci_low > 0 if self.higher_is_better else self.ci_high < 0


class Verdict(StrEnum):
    """What became of an experiment."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"


class Branch(StrEnum):
    """Why a node of the tree was grown."""

    DRAFT = "draft"
    """A first try of a recipe, from the base model."""
    DEBUG = "debug"
    """A crashed experiment, changed where its diagnosis points."""
    IMPROVE = "improve"
    """The incumbent with one change."""
    ABLATE = "ablate"
    """The incumbent without one of its changes: what was that one worth?"""


class Diagnosis(Record):
    """Why a training job failed, as far as its last words tell."""

    kind: Literal["out_of_memory", "diverged", "timed_out", "unknown"]
    evidence: str
    """The line of the log that says so."""


class Experiment(Record):
    """A node of the tree: one change against its parent."""

    id: str
    branch: Branch = Branch.DRAFT
    parent: str
    """Id of the experiment it changes; `baseline` for the first ones."""
    change: str
    """What is different from the parent, in one line."""
    why: str = ""
    recipe: Recipe
    dataset: str
    """Id of the DatasetRecord."""
    continues: bool = False
    """Whether training went on from the parent's checkpoint instead of the base model."""
    status: Literal["planned", "trained", "evaluated", "crashed"] = "planned"
    verdict: Verdict | None = None
    model: str = ""
    """Folder of the trained adapter or model."""
    adapter: bool = True
    """Whether `model` is an adapter over the base model."""
    train: dict[str, Any] = Field(default_factory=dict)
    """The training job's result: loss, tokens, peak memory, seconds."""
    jobs: tuple[str, ...] = ()
    """Submission keys, oldest first."""
    error: str = ""
    diagnosis: Diagnosis | None = None
    """Of the latest crash."""
