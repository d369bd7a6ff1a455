"""What the trainer may propose."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from agents.brain import Proposal
from shared_memory.records import Recipe, Record


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


class TrainingProposal(Proposal):
    """Experiments that may run side by side; none where nothing is left to try."""

    plans: tuple[Plan, ...] = ()
    why: str = ""

    def summary(self) -> str:
        if not self.plans:
            return self.why or "nothing is left to try"
        return "; ".join(f"{plan.change} ({plan.why})" for plan in self.plans)


class RetryProposal(Proposal):
    """The same experiment again, as it is."""

    experiment: str
    why: str

    def summary(self) -> str:
        return f"{self.experiment} again: {self.why}"


class DebugProposal(Proposal):
    """What to do about a crashed experiment.

    Either the same mathematics in less memory, or another experiment, or (both left out) nothing.
    """

    experiment: str
    why: str
    micro_batch: int | None = Field(default=None, ge=1)
    """Rows on the device at once; the batch behind a weight update stays."""
    plan: Plan | None = None

    @model_validator(mode="after")
    def _one_way_out(self) -> Self:
        if self.micro_batch is not None and self.plan is not None:
            raise ValueError("give either `micro_batch` or `plan`")
        return self

    def summary(self) -> str:
        if self.micro_batch is not None:
            return f"{self.experiment} again with {self.micro_batch} rows on the device at once: {self.why}"
        return f"{self.plan.change} ({self.why})" if self.plan else f"{self.experiment} is given up: {self.why}"


class DeliveryProposal(Proposal):
    """The experiment whose model is handed over."""

    experiment: str
    merge: bool
    """Whether the adapter is merged into the base model as well."""

    def summary(self) -> str:
        return f"save {self.experiment}, {'merged into the base model' if self.merge else 'as an adapter'}"
