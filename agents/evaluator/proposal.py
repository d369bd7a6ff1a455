"""What the evaluator may propose."""

from __future__ import annotations

from pydantic import Field

from agents.brain import Proposal
from shared_memory.records import Part


class EvaluationProposal(Proposal):
    experiment: str
    """Whose model is scored; `baseline` for the base model."""
    benchmarks: tuple[str, ...] = Field(min_length=1)
    parts: tuple[Part, ...] = Field(min_length=1)
    why: str = ""

    def summary(self) -> str:
        parts = " and ".join(f"{part.value} items" for part in self.parts)
        return f"score {self.experiment} on the {parts} of {', '.join(self.benchmarks)}: {self.why}"
