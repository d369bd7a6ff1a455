"""What the researcher may propose, what is refused of it, and what becomes of the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Union

from pydantic import Field, create_model

from agents.brain import Proposal
from agents.researcher.findings import Notebook
from shared_memory.recipes import RECIPES, Recipe
from shared_memory.records import Finding

UNVERIFIED = "unverified"
"""How the source begins of what a model remembers."""
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.-]{0,47}")


class ResearchProposal(Proposal):
    findings: tuple[Finding, ...] = ()
    """Those of the library that the recipes rest on, and what is remembered without a source; those that were filed
    need only be named by the recipes."""
    recipes: tuple[Recipe, ...] = Field(min_length=1)
    """Best first; each names the findings it rests on."""

    def summary(self) -> str:
        best = self.recipes[0]
        return f"{len(self.findings)} findings, {len(self.recipes)} recipes; first {best.id}: {best.reason}"


def with_recipes_of(methods: Sequence[str]) -> type[ResearchProposal]:
    """The same with recipes of these methods alone: the schema of all is many times as long to read."""
    return create_model(
        "ResearchProposal", __base__=ResearchProposal, recipes=(recipes_of(methods), Field(min_length=1))
    )


def recipes_of(methods: Sequence[str]) -> Any:
    """The type of several recipes of these methods."""
    recipe: Any = Union[tuple(RECIPES[method] for method in methods)]  # noqa: UP007 - of classes known at run time
    return tuple[recipe, ...]


def facts_of(findings: Mapping[str, Finding], recipes: Mapping[str, Recipe]) -> list[dict[str, Any]]:
    """The built-in library as a model is shown it: recipes whole, for they are handed in as they are."""
    known = [finding.model_dump(mode="json", exclude_defaults=True) for finding in findings.values()]
    return [*known, *(recipe.plain() for recipe in recipes.values())]


class Evidence:
    """What a proposal may rest on: the built-in library, what was filed, and what a model remembers."""

    def __init__(
        self, findings: Mapping[str, Finding], recipes: Mapping[str, Recipe], notebook: Notebook, model: str
    ) -> None:
        """findings, recipes: of the built-in library, by id; model: whose memory the rest is from."""
        self._findings = findings
        self._recipes = recipes
        self._notebook = notebook
        self._told = f"{UNVERIFIED}, from {model}'s memory"
        self._model = model

    def fault(self, given: Sequence[Finding], recipes: Sequence[Recipe]) -> str:
        """Why findings and recipes cannot be taken; empty where they can."""
        names = [each.id for each in given] + [each.id for each in recipes]
        for name in names:
            if not IDENTIFIER.fullmatch(name) or names.count(name) > 1:
                return f"the id {name!r} is used twice, or is not lower-case letters, digits, dots and hyphens"
        known = {each.id: each for each in given}
        for each in given:
            if each.quotation and not self._is_kept(each.id) and isinstance(why := self._notebook.check(each), str):
                return f"finding {each.id}: {why}"
        for recipe in recipes:
            if recipe.batch % recipe.micro_batch:
                return f"recipe {recipe.id}: micro_batch {recipe.micro_batch} does not divide batch {recipe.batch}"
            if not all(name in known or self._is_kept(name) for name in recipe.findings):
                known_ids = ", ".join([*known, *(each.finding.id for each in self._notebook.all())]) or "none"
                return f"recipe {recipe.id} names findings that are not among yours ({known_ids})"
            if recipe.id in self._recipes and recipe != self._recipes[recipe.id]:
                return f"recipe {recipe.id} differs from the library's; give what you changed an id of its own"
            if recipe.id not in self._recipes and (why := self._fault_of_words(recipe, known)):
                return f"recipe {recipe.id}: {why}"
        return ""

    def findings(self, given: Sequence[Finding], recipes: Sequence[Recipe]) -> tuple[Finding, ...]:
        """Those given and those that the recipes name, each as the library or the notebook has it, or as remembered."""
        named = {each.id: self._kept(each.id) or self._checked(each) for each in given}
        for name in (name for recipe in recipes for name in recipe.findings):
            if name not in named and (kept := self._kept(name)):
                named[name] = kept
        return tuple(named.values())

    def recipes(self, recipes: Sequence[Recipe], findings: Sequence[Finding]) -> tuple[Recipe, ...]:
        """The recipes, each with the source that code knows of."""
        return tuple(self._recipes.get(each.id) or self._sourced(each, findings) for each in recipes)

    def _is_kept(self, name: str) -> bool:
        return self._kept(name) is not None

    def _kept(self, name: str) -> Finding | None:
        filed = self._notebook.get(name)
        return self._findings.get(name) or (filed.finding if filed else None)

    def _checked(self, finding: Finding) -> Finding:
        """With its quotation found in the source, or marked as from memory."""
        found = self._notebook.check(finding) if finding.quotation else ""
        if isinstance(found, str):
            source = f"{self._told}: {finding.source}"
            return finding.model_copy(update={"source": source, "confidence": "low", "verified": False})
        return finding.model_copy(update={"source": found.source, "verified": True})

    def _sourced(self, recipe: Recipe, findings: Sequence[Finding]) -> Recipe:
        cited = [each for each in findings if each.id in recipe.findings]
        known = [each for each in cited if each.verified or each.id in self._findings]
        sources = "; ".join(dict.fromkeys(each.source for each in known))
        changed: dict[str, Any] = {"source": f"{sources}; put together by {self._model}" if sources else self._told}
        if not recipe.expected and (best := next((each for each in known if each.number is not None), None)):
            place = ", ".join(filter(None, (best.section, best.source)))
            changed["expected"] = f"{best.claim} → {best.number:g} on {best.benchmark}, {place}"
        return recipe.model_copy(update=changed)

    def _fault_of_words(self, recipe: Recipe, known: Mapping[str, Finding]) -> str:
        cited = [found for name in recipe.findings if (found := self._kept(name) or known.get(name))]
        return self._notebook.fault_of_expectation(recipe.expected, cited)
