"""The mind behind a role: what it is shown, what it may be asked, and who answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from shared_memory.errors import Unavailable
from shared_memory.goal import Goal
from shared_memory.records import DatasetRecord, EvalResult, Experiment, Finding, Recipe, Record


class Role(StrEnum):
    RESEARCHER = "researcher"
    DATA_ENGINEER = "data_engineer"
    TRAINER = "trainer"
    EVALUATOR = "evaluator"


class Move(StrEnum):
    """What the router may ask for next."""

    BASELINE = "baseline"
    """Score the base model on every benchmark."""
    RESEARCH = "research"
    """Find recipes."""
    DATA = "data"
    """Make training data."""
    DRAFT = "draft"
    """Plan a first experiment."""
    DEBUG = "debug"
    """Train an experiment again that was planned, or crashed and was reopened by a person."""
    IMPROVE = "improve"
    """Plan a child of the incumbent that changes one thing."""
    CANDIDATE = "candidate"
    """Score a trained experiment on the selection items."""
    DELIVER = "deliver"
    """Save the incumbent as the model that is handed over."""
    CONFIRM = "confirm"
    """Score the delivered model on the report items."""
    STOP = "stop"
    """Write the report."""

    @property
    def role(self) -> Role | None:
        """Who carries it out; None for `stop`."""
        return _ROLE_OF.get(self)


_ROLE_OF = {
    Move.BASELINE: Role.EVALUATOR,
    Move.RESEARCH: Role.RESEARCHER,
    Move.DATA: Role.DATA_ENGINEER,
    Move.DRAFT: Role.TRAINER,
    Move.DEBUG: Role.TRAINER,
    Move.IMPROVE: Role.TRAINER,
    Move.CANDIDATE: Role.EVALUATOR,
    Move.DELIVER: Role.TRAINER,
    Move.CONFIRM: Role.EVALUATOR,
}


@dataclass(frozen=True)
class Brief:
    """What a role is shown before it proposes: the goal and what the team knows."""

    goal: Goal
    move: Move
    experiment: str = ""
    """The experiment that the move is about: the one to score, to improve on or to deliver."""
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


def choose_brain(model: str, rules: Mapping[Role, Callable[[Brief], Proposal]]) -> Brain:
    """The brain called `model`.

    Raises Unavailable for anything but the playbook: this version drives no language model.
    """
    if model == "playbook":
        return Playbook(rules)
    raise Unavailable(
        f"`{model}` cannot be the brain: this version runs on the built-in playbook only; "
        "set [brain] default = 'playbook'"
    )
