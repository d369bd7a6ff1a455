"""What the evaluator may propose."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from agents.brain import Proposal
from shared_memory.records import Part


class EvaluationProposal(Proposal):
    experiments: tuple[str, ...] = Field(min_length=1)
    """Whose models are scored; `baseline` for the base model."""
    benchmarks: tuple[str, ...] = Field(min_length=1)
    parts: tuple[Part, ...] = Field(min_length=1)
    why: str = ""

    def summary(self) -> str:
        parts = " and ".join(f"{part.value} items" for part in self.parts)
        return f"score {', '.join(self.experiments)} on the {parts} of {', '.join(self.benchmarks)}: {self.why}"


class HoldOutProposal(Proposal):
    """How many rows to hold out of the training data."""

    share: float = Field(default=0.05, gt=0, le=0.2)
    """Of the rows."""
    minimum: int = Field(default=100, ge=40)
    """Held out of a small set, up to a fifth of it."""
    maximum: int = Field(default=1000, ge=40)
    why: str = ""

    @model_validator(mode="after")
    def _minimum_is_not_above_maximum(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum is {self.minimum}, above the maximum of {self.maximum}")
        return self

    def summary(self) -> str:
        return f"hold out {self.share:.0%} of the rows ({self.minimum:,} to {self.maximum:,}): {self.why}"
