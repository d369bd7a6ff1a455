"""The researcher's rules: the recipes of the built-in library that fit the base model."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from agents.brain import Brief
from agents.researcher.proposal import ResearchProposal
from shared_memory.errors import BadInput
from shared_memory.records import Finding, recipe_of

LIBRARY = Path(__file__).with_name("recipes.toml")


def propose(brief: Brief) -> ResearchProposal:
    """Recipes for the goal's method and the base model's size, with the findings they rest on.

    Raises BadInput where the library has none.
    """
    method = brief.method
    millions = brief.parameters / 1e6
    entries, findings = _library()
    given = {"teacher": brief.goal.distill_from} if method == "distill" else {}
    fitting = [
        recipe_of({key: value for key, value in {**entry, **given}.items() if key != "fits"})
        for entry in entries
        if entry["method"] == method and entry["fits"]["min_m"] <= millions < entry["fits"]["max_m"]
    ]
    if not fitting:
        raise BadInput(
            f"the recipe library has no `{method}` recipe for {millions:.0f}M parameters; try another base_model"
        )
    cited = {finding for recipe in fitting for finding in recipe.findings}
    return ResearchProposal(findings=tuple(f for f in findings if f.id in cited), recipes=tuple(fitting))


@lru_cache(maxsize=1)
def _library() -> tuple[list[dict[str, Any]], tuple[Finding, ...]]:
    table = tomllib.loads(LIBRARY.read_text(encoding="utf-8"))
    return table["recipe"], tuple(Finding.model_validate(entry) for entry in table["finding"])
