"""What the researcher may propose."""

from __future__ import annotations

from pydantic import Field

from agents.brain import Proposal
from shared_memory.records import Finding, Recipe


class ResearchProposal(Proposal):
    findings: tuple[Finding, ...] = ()
    recipes: tuple[Recipe, ...] = Field(min_length=1)
    """Best first; each names the findings it rests on."""

    def summary(self) -> str:
        best = self.recipes[0]
        return f"{len(self.findings)} findings, {len(self.recipes)} recipes; first {best.id}: {best.reason}"
