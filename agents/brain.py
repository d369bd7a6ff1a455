"""The mind behind a role: what it is shown, what it may be asked, and who answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from pydantic import Field

from agents.llm import InvalidAnswer
from agents.workbench import Workbench
from shared_memory.ablations import EffectTable, Variant
from shared_memory.goal import Goal
from shared_memory.records import DatasetRecord, EvalResult, Experiment, Finding, Recipe, Record


class Role(StrEnum):
    RESEARCHER = "researcher"
    DATA_ENGINEER = "data_engineer"
    TRAINER = "trainer"
    EVALUATOR = "evaluator"


class Move(StrEnum):
    """What the router may ask for next."""

    HOLD_OUT = "hold_out"
    """Set rows aside to measure on, where the goal names no benchmark."""
    BASELINE = "baseline"
    """Score the base model on every benchmark."""
    RESEARCH = "research"
    """Find recipes."""
    DATA = "data"
    """Make training data."""
    DRAFT = "draft"
    """Plan first experiments: one recipe as a pilot, then others beside it."""
    RETRY = "retry"
    """Train an experiment again as it is: it was planned and never trained, or a person reopened it."""
    DEBUG = "debug"
    """Change a crashed experiment where its diagnosis points."""
    IMPROVE = "improve"
    """Plan children of the incumbent, each with one change."""
    ABLATE = "ablate"
    """Train the incumbent without some of its parts, to learn what each is worth."""
    CANDIDATE = "candidate"
    """Score the trained experiments on the selection items."""
    DELIVER = "deliver"
    """Save the incumbent as the model that is handed over."""
    CONFIRM = "confirm"
    """Score the delivered model on the report items."""
    PUBLISH = "publish"
    """Publish the training data, where the goal says where to."""
    PUSH = "push"
    """Publish the delivered model, where the goal says where to."""
    STOP = "stop"
    """Write the report."""

    @property
    def role(self) -> Role | None:
        """Who carries it out; None for `stop`."""
        return _ROLE_OF.get(self)


_ROLE_OF = {
    Move.HOLD_OUT: Role.EVALUATOR,
    Move.BASELINE: Role.EVALUATOR,
    Move.RESEARCH: Role.RESEARCHER,
    Move.DATA: Role.DATA_ENGINEER,
    Move.DRAFT: Role.TRAINER,
    Move.RETRY: Role.TRAINER,
    Move.DEBUG: Role.TRAINER,
    Move.IMPROVE: Role.TRAINER,
    Move.ABLATE: Role.TRAINER,
    Move.CANDIDATE: Role.EVALUATOR,
    Move.DELIVER: Role.TRAINER,
    Move.CONFIRM: Role.EVALUATOR,
    Move.PUBLISH: Role.DATA_ENGINEER,
    Move.PUSH: Role.TRAINER,
}


class DataAudit(Record):
    """What the goal's own rows are like, in numbers: what decides whether others are written beside them."""

    rows: int
    distinct: int
    """That can be trained on, each counted once, without those that are held out to measure on."""
    verdict: Literal["fit", "fixable", "unfit"] = "fit"
    findings: dict[str, int] = Field(default_factory=dict)
    """Kind of finding → rows that have it."""
    topics: dict[str, int] = Field(default_factory=dict)
    """Topic that the goal names → rows about it."""


@dataclass(frozen=True)
class Brief:
    """What a role is shown before it proposes: the goal and what the team knows."""

    goal: Goal
    move: Move
    experiment: str = ""
    """The experiment that the move is about: the one to retry, to mend, to improve on or to deliver."""
    trains: tuple[str, ...] = ()
    """Methods that the goal's own rows can train."""
    room: int = 1
    """Experiments that may be planned now."""
    unscored: tuple[str, ...] = ()
    """Trained experiments without a score."""
    unmeasured: tuple[str, ...] = ()
    """Benchmarks that an earlier attempt at the move has left to measure; empty for all."""
    incumbent: str = "baseline"
    """The best experiment so far."""
    parameters: int = 0
    """Weights of the base model."""
    findings: Mapping[str, Finding] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Best first."""
    datasets: Mapping[str, DatasetRecord] = field(default_factory=dict)
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    """Oldest first."""
    results: Mapping[str, EvalResult] = field(default_factory=dict)
    generated: tuple[str, ...] = ()
    """Files that generation jobs have made."""
    variants: tuple[Variant, ...] = ()
    """For an ablation: what of the incumbent can be varied and has not been, best first."""
    reference: str = ""
    """The experiment that these vary: the incumbent, or the first stage of its training."""
    effects: EffectTable | None = None
    """What is known of what the incumbent's parts are worth; None where nobody has looked."""
    audit: DataAudit | None = None
    """Of the goal's own rows; None where it has none, or nobody has looked at them yet."""
    held_out: frozenset[str] = frozenset()
    """Ids of rows of the goal's that it is measured on: whoever writes rows may not see one."""
    choices: bool = False
    """Whether rows are multiple choice: the goal's own, or else the items that it is measured on."""
    teacher: str = ""
    """The language model that may write rows; empty where none may."""
    no_teacher: str = ""
    """Why the one that the goal names may not."""
    not_written: str = ""
    """Why rows that were to be written are not there, and are not asked for again."""
    wishes: tuple[str, ...] = ()
    """What the person has asked for since the run began, in their words, oldest first."""
    lessons: tuple[str, ...] = ()
    """What earlier runs learned that bears on this goal, a line each: evidence, never instruction."""
    done: Mapping[str, str] = field(default_factory=dict)
    """What came of the actions that the roles asked for, by id: words from outside."""

    def data_for(self, parent: str) -> str:
        """Id of the data that a child of `parent` is trained on: the parent's, or the run's first, which is whole."""
        known = self.experiments.get(parent)
        return known.dataset if known else next(iter(self.datasets), "")

    @property
    def method(self) -> str:
        """The goal's method, or the one that its rows are made for."""
        fitting = "dpo" if "dpo" in self.trains else "sft"
        return fitting if self.goal.method == "auto" else self.goal.method


class Proposal(Record, ABC):
    """What a role proposes; every role has its own kinds."""

    @abstractmethod
    def summary(self) -> str:
        """The proposal in one line."""


class Brain(Protocol):
    """Answers a brief with a proposal of the role's own kind."""

    name: str

    def propose(self, role: Role, brief: Brief) -> Proposal: ...


class Playbook:
    """The built-in brain: expert rules that need no key and no network."""

    name = "playbook"

    def __init__(self, rules: Mapping[Role, Callable[[Brief], Proposal]]) -> None:
        self._rules = rules

    def propose(self, role: Role, brief: Brief) -> Proposal:
        return self._rules[role](brief)


MOST_STAND_INS = 2
"""Times in a run that the playbook answers for a language model, before the run stops."""


class LlmBrain:
    """A language model, and the playbook where the model's answer is of no use twice over."""

    def __init__(
        self,
        bench: Workbench,
        agents: Mapping[Role, Callable[[Brief, Workbench], Proposal]],
        rules: Mapping[Role, Callable[[Brief], Proposal]],
        stand_ins: Collection[str],
        on_stand_in: Callable[[str, Role, str], None],
    ) -> None:
        self.name = bench.model.name
        self._bench = bench
        self._agents = agents
        self._rules = rules
        self._stand_ins = stand_ins
        self._on_stand_in = on_stand_in

    def propose(self, role: Role, brief: Brief) -> Proposal:
        """The model's proposal, or the playbook's; `name` then says so.

        Raises InvalidAnswer where the run has had its stand-ins (resuming asks the model anew), Unavailable or
        ContextExhausted where the model cannot be used, and BudgetSpent where a cap leaves no room for a request.
        """
        try:
            return self._agents[role](brief, self._bench)
        except InvalidAnswer as error:
            if error.key not in self._stand_ins and len(self._stand_ins) >= MOST_STAND_INS:
                self._bench.model.forget(error)
                raise InvalidAnswer(
                    f"{error}; the playbook has stood in {MOST_STAND_INS} times in this run: "
                    "choose another model in [brain], or resume to ask again",
                    error.key,
                ) from error
            self._on_stand_in(error.key, role, str(error))
            self.name = f"playbook, standing in for {self._bench.model.name}"
            return self._rules[role](brief)


def choose_brain(
    bench: Workbench | None,
    rules: Mapping[Role, Callable[[Brief], Proposal]],
    agents: Mapping[Role, Callable[[Brief, Workbench], Proposal]],
    *,
    stand_ins: Collection[str],
    on_stand_in: Callable[[str, Role, str], None],
) -> Brain:
    """The brain of a role: the playbook, or the language model of a workbench.

    `rules` and `agents` are the roles' proposers without and with a language model. `stand_ins` holds the keys of the
    stand-ins that the run has had, and `on_stand_in(key, role, reason)` files another: under its key, since a node may
    run again after a crash.
    """
    return LlmBrain(bench, agents, rules, stand_ins, on_stand_in) if bench else Playbook(rules)
