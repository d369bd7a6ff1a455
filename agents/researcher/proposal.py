"""What the researcher may propose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

from pydantic import Field, create_model

from agents.brain import Proposal
from shared_memory.recipes import RECIPES, Recipe
from shared_memory.records import Finding


class ResearchProposal(Proposal):
    findings: tuple[Finding, ...] = ()
    recipes: tuple[Recipe, ...] = Field(min_length=1)
    """Best first; each names the findings it rests on."""

    def summary(self) -> str:
        best = self.recipes[0]
        return f"{len(self.findings)} findings, {len(self.recipes)} recipes; first {best.id}: {best.reason}"


def with_recipes_of(methods: Sequence[str]) -> type[ResearchProposal]:
    """The same with recipes of these methods alone: the schema of all is many times as long to read."""
    recipe: Any = Union[tuple(RECIPES[method] for method in methods)]  # noqa: UP007 - of classes known at run time
    return create_model(
        "ResearchProposal", __base__=ResearchProposal, recipes=(tuple[recipe, ...], Field(min_length=1))
    )
