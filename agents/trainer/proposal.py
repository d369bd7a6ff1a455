"""What the trainer may propose."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import Field, create_model

from agents.brain import Proposal
from shared_memory.ablations import Variant
from shared_memory.recipes import RECIPES, Recipe
from shared_memory.records import Record


class Plan(Record):
    """An experiment to be: one change against its parent."""

    parent: str
    """Id of an experiment, or `baseline`."""
    change: str
    """What is different from the parent, in one line."""
    why: str
    recipe: Recipe
    continues: bool = False
    """Whether training goes on from the parent's checkpoint instead of the base model."""
    script: str = Field(default="", max_length=60_000)
    """Python source of a training script to run in place of the parent's, where no number of a recipe says what is
    meant; empty, as nearly always, keeps the parent's."""


class TrainingProposal(Proposal):
    """Experiments that may run side by side; none where nothing is left to try."""

    plans: tuple[Plan, ...] = ()
    why: str = ""

    def summary(self) -> str:
        if not self.plans:
            return self.why or "nothing is left to try"
        return "; ".join(f"{plan.change} ({plan.why})" if plan.why else plan.change for plan in self.plans)


class AblationProposal(Proposal):
    """An experiment again without some of its parts, to learn what each is worth; none where nothing is left to vary.

    Variants may run side by side.
    """

    reference: str = ""
    """Id of the experiment that is varied."""
    variants: tuple[Variant, ...] = ()
    ids: tuple[str, ...] = ()
    """What the experiments are to be called, one for each variant; empty takes the next free ids."""
    why: str = ""

    def summary(self) -> str:
        if not self.variants:
            return self.why or "no part is left to leave out"
        listed = "; ".join(f"{self.reference} {variant.change}" for variant in self.variants)
        return f"{listed} ({self.why})" if self.why else listed


class AblationChoice(Proposal):
    """What a language model says instead: the parts to vary, by name."""

    parts: tuple[str, ...]
    why: str = ""

    def summary(self) -> str:
        return ", ".join(self.parts)


class RetryProposal(Proposal):
    """The same experiment again, as it is."""

    experiment: str
    why: str

    def summary(self) -> str:
        return f"{self.experiment} again: {self.why}"


class DebugProposal(Proposal):
    """What to do about a crashed experiment: another one in its place, or nothing.

    The same mathematics in another way is no proposal: where that may help, it was tried before anybody was asked.
    """

    experiment: str
    why: str
    plan: Plan | None = None

    def summary(self) -> str:
        return f"{self.plan.change} ({self.why})" if self.plan else f"{self.experiment} is given up: {self.why}"


@lru_cache
def with_recipes_of(method: str, kind: type[Proposal]) -> type[Proposal]:
    """`kind` with plans of one method alone, where it has plans: the schema of all is many times as long to read."""
    fields: dict[str, Any] = {}
    plan: Any = create_model("Plan", __base__=Plan, recipe=(RECIPES[method], ...))
    if kind is TrainingProposal:
        fields = {"plans": (tuple[plan, ...], ())}
    elif kind is DebugProposal:
        fields = {"plan": (plan | None, None)}
    return create_model(kind.__name__, __base__=kind, **fields) if fields else kind


class PushProposal(Proposal):
    """Where the delivered model goes."""

    to: str
    """A Hub repository, or a folder."""
    private: bool = True

    def summary(self) -> str:
        return f"publish the model to {self.to}"


class DeliveryProposal(Proposal):
    """The experiment whose model is handed over."""

    experiment: str
    merge: bool
    """Whether the adapter is merged into the base model as well."""

    def summary(self) -> str:
        return f"save {self.experiment}, {'merged into the base model' if self.merge else 'as an adapter'}"
