"""The nouns of a run, frozen: what the roles propose, what the graph carries, what the journal keeps.

Everything here crosses a boundary (a checkpoint, the database, a job folder, a report), so every record is immutable,
refuses unknown fields, and becomes plain JSON with `model_dump(mode="json")`. Money is integer micro-dollars, time is
seconds unless the name says hours, scores are fractions of 1.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from shared_memory.jobs import (
    FREE_OF_SCOPE as FREE_OF_SCOPE,
)
from shared_memory.jobs import (
    MICRO_USD as MICRO_USD,
)
from shared_memory.jobs import (
    REJECTED as REJECTED,
)
from shared_memory.jobs import (
    Decision as Decision,
)
from shared_memory.jobs import (
    Diagnosis as Diagnosis,
)
from shared_memory.jobs import (
    Envelope as Envelope,
)
from shared_memory.jobs import (
    Estimate as Estimate,
)
from shared_memory.jobs import (
    Job as Job,
)
from shared_memory.jobs import (
    JobSpec as JobSpec,
)
from shared_memory.jobs import (
    JobState as JobState,
)
from shared_memory.jobs import (
    Purpose as Purpose,
)
from shared_memory.jobs import (
    submission_key as submission_key,
)
from shared_memory.metric import Metric
from shared_memory.recipes import Lora as Lora
from shared_memory.recipes import Recipe as Recipe
from shared_memory.recipes import recipe_of as recipe_of
from shared_memory.record import Record as Record
from shared_memory.record import canonical_digest as canonical_digest


class Finding(Record):
    """Something the researcher learned, and where."""

    id: str
    claim: str
    source: str
    """A citation a person can follow: arXiv id with section, URL, or file of the repository."""
    confidence: Literal["low", "medium", "high"] = "medium"
    number: float | None = None
    """The result that it claims, as the source writes it (85.3 for 85.3 %)."""
    benchmark: str = ""
    """What that number was measured on."""
    section: str = ""
    """Of the source, as its contents call it: `4.2 Main results`, `Table 4`."""
    quotation: str = ""
    """Word for word from the source."""
    verified: bool = False
    """Whether code has found the quotation in the source as it was fetched."""


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
    answers: Literal["", "letter", "mathematics", "text"] = ""
    """How the answers of grpo's rows are compared: as letters of choices, by value as mathematics, or word for word."""
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
    making: dict[str, Any] = Field(default_factory=dict)
    """What it can be made again by: `proposal`, `weights`, and the sha256 of every file; empty in older records."""
    without: tuple[str, ...] = ()
    """Steps, or sources, that were left out to learn what they are worth."""


class Part(StrEnum):
    """Which items of a benchmark: those that steer the search, or those that only report."""

    SELECTION = "selection"
    REPORT = "report"


class CategoryScore(Record):
    score: float
    n: int
    stderr: float = 0.0


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
    """Share of items whose output met the token limit without an end of turn."""
    completed: float | None = None
    """Score of the outputs that ended by themselves; None without any. A truncated one is a fault of decoding."""
    unparsed: float = 0.0
    """Share of items whose output ended, and holds no answer in the asked form."""
    clusters: int = 0
    """Groups of items (a passage, a scenario) that `stderr` is clustered by; 0 where every item stands alone."""
    judge: str = ""
    """The language model that graded the answers."""
    categories: dict[str, CategoryScore] = Field(default_factory=dict)
    settings_digest: str
    """sha256 of benchmark, template, decoding and the evaluator's code."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Package → version of what scored the answers here."""
    seed: int = 0
    items: str
    """Path of the item records (JSONL): `id, part, category, epoch, score, answered, truncated, answer, output,
    output_tokens`."""
    items_digest: str = ""
    """sha256 of that file."""
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
    test: str = ""
    """What `p_value` is of: McNemar's mid-p, or a permutation of signs."""
    mde: float | None = None
    """The smallest true difference that this comparison shows in 80 % of cases; None where nothing tells."""
    discordant: int = 0
    """Items on which the two differ."""

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
    seed: int | None = None
    """Of its training, where that is not the goal's."""
    script: str = ""
    """sha256, in the run's file store, of a training script that a model wrote; empty for ours, or the goal's."""
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
