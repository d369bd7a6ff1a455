"""What a person asks for: the goal file as one typed record."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from shared_memory.records import MICRO_USD, Record


class BenchmarkGoal(Record):
    """One `[[benchmark]]`: what to measure on."""

    name: str = ""
    """A benchmark of the registry (`postgrad benchmarks` lists them)."""
    path: str = ""
    """Or a file, or a data set on the Hub: GPQA's columns, question, choices and answer, question and answer, prompt
    and completion, or prompt, chosen and rejected. With `name`, a local copy of that benchmark's data."""
    metric: Literal["auto", "choice", "exact", "numeric", "regex", "calls", "rubric", "loss", "preference"] = "auto"
    """How an answer is scored; `auto` goes by the file's columns, or by the registry. `choice`: the right letter.
    `exact`: the reference answer, as the reply marks it or else all of the reply, case and blanks aside. `numeric`: the
    same number. `regex`: the reference is a pattern that the whole answer matches. `calls`: the reference's function
    calls, compared by structure. `rubric`: a judge goes through the row's criteria. `loss`: nats a token of the
    reference. `preference`: the chosen text is likelier than the rejected one."""
    primary: bool = False
    """It steers the search; the first one does where none is marked."""
    target: float | None = Field(default=None, ge=0, le=1)
    """Score (fraction of 1) at which the search may stop."""
    max_tokens: int | None = Field(default=None, ge=8)
    """Tokens that an answer may take; empty takes the registry's limit, or 256 for a file."""
    epochs: int | None = Field(default=None, ge=1, le=64)
    """Resamples K of every item, choices in another order each time; empty takes the registry's, or 1."""
    limit: int | None = Field(default=None, ge=1)
    """Items to ask, drawn by a hash of their ids and never the first ones; empty asks all."""
    decoding: Literal["auto", "greedy", "model"] = "auto"
    """`greedy`, or what the model's own generation_config.json says, as PostTrainBench decodes; `auto` is the
    registry's, and greedy for a file."""
    chat_template: str = ""
    """A Jinja file that renders the chats in place of the model's own template."""
    engine: Literal["inspect", "lighteval"] = "inspect"
    """What asks and scores: inspect-ai's solvers and scorers, or a task of LightEval called `name`."""

    @model_validator(mode="after")
    def _has_a_name_or_a_path(self) -> Self:
        if not (self.name or self.path):
            raise ValueError("a benchmark has a `name` or a `path`")
        return self

    @property
    def id(self) -> str:
        """What scores are filed under: the name, or the file's name without its ending."""
        return self.name or Path(self.path).stem


class JudgeGoal(Record):
    """`[judge]`: the language model that grades what no rule can."""

    model: str = ""
    """LiteLLM name; benchmarks that need a judge are refused without one."""
    api_base: str = ""
    """Address of the server that has it, where that is not its provider's own."""


class DataGoal(Record):
    """`[data]`: what to train on."""

    train: tuple[str, ...] = ()
    """What to train on: files, folders, or data sets on the Hub (`org/name`, `org/name@revision`)."""
    weights: tuple[float, ...] = ()
    """One for each entry of `train`: the proportion in which their rows are mixed. Empty takes all rows as they are."""
    generator: str = ""
    """A script that writes training rows: `SCRIPT --part train --rows N --seed S` prints JSONL."""
    teacher: str = ""
    """A language model (LiteLLM name) that writes training rows where there is no generator; empty takes the data
    engineer's own, if it has one."""
    topics: tuple[str, ...] = ()
    """What the rows should be about; one that hardly any row is about is a reason to write some."""
    synthesise: Literal["if_needed", "never", "always"] = "if_needed"
    """Whether rows are written beside those of `train`: where these are missing, too few, unfit or leave topics out;
    never; or always."""

    @model_validator(mode="after")
    def _every_entry_has_a_weight(self) -> Self:
        if self.weights and len(self.weights) != len(self.train):
            raise ValueError(
                f"there are {len(self.weights)} weights for {len(self.train)} entries of train; give one for each"
            )
        if any(not 0 < weight < float("inf") for weight in self.weights):
            raise ValueError("`weights` are numbers above 0; leave what should not be trained on out of `train`")
        return self


class Limits(Record):
    """`[limits]`: none of these is ever exceeded."""

    usd: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """Dollars that jobs and language models may cost."""
    hours: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Hours of driving; waiting for a person does not count."""
    llm_tokens: int = Field(default=2_000_000, ge=0)
    """Tokens that the roles' language models may read and write."""
    jobs: int = Field(default=40, ge=1)
    """Jobs that may be started: generation, training, evaluation, merge."""
    experiments: int = Field(default=12, ge=0)
    """Trainings that may be planned; 0 only scores the base model."""
    deadline: datetime | None = None
    """Wall-clock end, waiting included."""

    @property
    def usd_micro(self) -> int:
        return round(self.usd * MICRO_USD)


class Output(Record):
    """`[output]`: where the model goes."""

    push_to: str = ""
    """Hub repository for the model; empty keeps it in the run's folder."""
    data_to: str = ""
    """Hub data set, or a folder, that the training data are published to; empty keeps them in the run's folder."""
    private: bool = True
    """Whether these repositories are private."""
    save: tuple[Literal["adapter", "merged"], ...] = ("adapter", "merged")
    """What is handed over of a model that was trained with an adapter."""


class Rules(Record):
    """`[rules]`: what is allowed."""

    hosted_teacher: bool = True
    """Whether a hosted language model may write training data: one that does not run on this machine or network."""
    contaminated: Literal["drop", "stop"] = "drop"
    """What becomes of training rows that contain items of a benchmark: they are left out, or they stop the run."""


class RunOptions(Record):
    """`[run]`: how the work is done."""

    on: Literal["local", "hf", "slurm", "api"] = "local"
    """Where jobs run: this machine, Hugging Face Jobs, or the Slurm cluster that this machine submits to. `api` only
    scores a model that others serve: `base_model` is its LiteLLM name then."""
    api_base: str = ""
    """Address of the server that has the model, for `api`; empty is the provider's own."""
    flavor: str = ""
    """Hardware of the jobs, as it is called there (`a10g-large`, a partition); empty takes the cheapest that fits."""
    namespace: str = ""
    """Organisation whose HF jobs these are; empty is the token's own user."""
    image: str = ""
    """Container image that jobs on HF Jobs and Slurm run in, in place of the usual one."""
    script: str = ""
    """A training script of one's own, in place of ours: it takes the same config.json and ends with the same line."""
    approve: Literal["ask", "paid", "auto"] = "ask"
    """Which jobs a person is asked about: all, those that cost money or leave this machine, or none."""
    parallel: int = Field(default=1, ge=1, le=64)
    """Experiments that are planned, approved and in flight together, after the first one has worked."""
    sandbox: Literal["auto", "none"] = "auto"
    """What generated code and generators run in: a sandbox, or nothing where a person allows that by name."""
    seed: int = Field(default=0, ge=0)
    """Of data, training and evaluation."""
    report_to: tuple[str, ...] = ("trackio",)
    """Trackers that training reports to."""


class BrainGoal(Record):
    """`[brain]`: the minds of the roles; a name is `playbook` or a LiteLLM model, empty leaves it to the default."""

    default: str = ""
    """Of every role without one of its own; empty takes the home's."""
    researcher: str = ""
    """Of the one who reads the literature."""
    data_engineer: str = ""
    """Of the one who makes the training data; it also writes rows, where no teacher is named."""
    trainer: str = ""
    """Of the one who plans experiments, and chooses among the moves that the rules allow."""
    evaluator: str = ""
    """Of the one who measures."""
    api_base: str = ""
    """Address of the server that has the models, where that is not their provider's own."""
    fallbacks: tuple[str, ...] = ()
    """Models that are asked, in this order, where one of the above cannot be reached or has no quota."""
    reasoning_effort: Literal["", "none", "minimal", "low", "medium", "high"] = ""
    """How long a reasoning model may think; models that know no such thing are asked without it."""
    window: int | None = Field(default=None, ge=2048)
    """Tokens that the models can read; empty asks the server, or takes what LiteLLM knows."""
    steps: int = Field(default=60, ge=1)
    """Requests of one role for one proposal, at most; the last one is for the proposal."""


class Goal(Record):
    """A goal, as a person wrote it. Paths are absolute once it was read (see goal_reading.py)."""

    text: str
    """What is wanted, in the person's words."""
    base_model: str = ""
    """A folder, or a Hub id."""
    revision: str = ""
    """Commit or tag on the Hub; empty takes the newest."""
    method: Literal["auto", "sft", "dpo", "kto", "reward", "grpo", "rloo", "distill"] = "auto"
    """How to train; `auto` goes by what the rows are made for."""
    distill_from: str = ""
    """The model that `distill` learns from: a folder or a Hub id, with the same vocabulary as the base model."""
    data: DataGoal = Field(default_factory=DataGoal)
    benchmark: tuple[BenchmarkGoal, ...] = ()
    """What to measure on; without any, rows are held out of the training data."""
    limits: Limits = Field(default_factory=Limits)
    judge: JudgeGoal = Field(default_factory=JudgeGoal)
    output: Output = Field(default_factory=Output)
    rules: Rules = Field(default_factory=Rules)
    run: RunOptions = Field(default_factory=RunOptions)
    brain: BrainGoal = Field(default_factory=BrainGoal)

    @field_validator("judge", "run", "brain")
    @classmethod
    def _servers_have_an_address(
        cls, section: JudgeGoal | RunOptions | BrainGoal
    ) -> JudgeGoal | RunOptions | BrainGoal:
        _require_an_address(section.api_base)
        return section

    @model_validator(mode="after")
    def _distillation_has_a_teacher(self) -> Self:
        if (self.method == "distill") != bool(self.distill_from):
            raise ValueError(
                "`distill_from` names the model that method = 'distill' learns from; give both, or neither"
            )
        return self

    @model_validator(mode="after")
    def _benchmarks_are_told_apart(self) -> Self:
        ids = [entry.id for entry in self.benchmark]
        if len(set(ids)) != len(ids):
            raise ValueError(f"two benchmarks are both called {next(i for i in ids if ids.count(i) > 1)!r}")
        if sum(entry.primary for entry in self.benchmark) > 1:
            raise ValueError("only one benchmark can be primary")
        return self

    def mind(self, role: str, home: str = "playbook") -> str:
        """What the brain of a role is called: the goal's for it, else the goal's for all, else the home's."""
        return str(getattr(self.brain, role) or self.brain.default or home)

    @property
    def primary(self) -> BenchmarkGoal:
        """The benchmark that steers the search: the one marked so, else the first; IndexError without any."""
        return next((entry for entry in self.benchmark if entry.primary), self.benchmark[0])


def _require_an_address(api_base: str) -> None:
    address = urlsplit(api_base or "http://localhost")
    if address.scheme not in ("http", "https") or not address.hostname or "@" in address.netloc:
        raise ValueError(
            "`api_base` is the http address of a model server, without a password; keys stay in the environment"
        )
