"""What the trainer may propose."""

from __future__ import annotations

from agents.brain import Proposal
from shared_memory.records import Recipe


class TrainingProposal(Proposal):
    """An experiment: one change against its parent."""

    parent: str
    change: str
    why: str
    recipe: Recipe
    continues: bool = False
    """Whether training goes on from the parent's checkpoint instead of the base model."""

    def summary(self) -> str:
        return f"{self.change} ({self.why})"


class RetryProposal(Proposal):
    """The same experiment again, after a person reopened the run."""

    experiment: str
    why: str

    def summary(self) -> str:
        return f"{self.experiment} again: {self.why}"


class DeliveryProposal(Proposal):
    """The experiment whose model is handed over."""

    experiment: str
    merge: bool
    """Whether the adapter is merged into the base model as well."""

    def summary(self) -> str:
        return f"save {self.experiment}, {'merged into the base model' if self.merge else 'as an adapter'}"
