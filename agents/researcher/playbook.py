"""The researcher's rules: the recipes of the built-in library that fit the base model and the goal's benchmarks."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from agents.brain import Brief
from agents.researcher.proposal import ResearchProposal
from shared_memory.errors import BadInput
from shared_memory.recipes import Recipe, recipe_of
from shared_memory.record import Record
from shared_memory.records import Finding

LIBRARY = Path(__file__).with_name("recipes.toml")
MOST = 4
"""Recipes that are proposed: a search tries three from the base model, and one of them may crash."""
TEACHER = "the goal's distill_from"
"""What stands for a teacher where no goal names one."""


class Fits(Record):
    """Where a recipe applies."""

    min_m: float
    """Millions of parameters of the base model, from this many up to …"""
    max_m: float
    """… but not including, this many."""
    benchmarks: tuple[str, ...] = ()
    """It is proposed where the goal measures one of these; without any, for every goal."""

    def holds(self, parameters: int, benchmarks: Sequence[str]) -> bool:
        sized = self.min_m <= parameters / 1e6 < self.max_m
        return sized and (not self.benchmarks or bool(set(self.benchmarks) & set(benchmarks)))

    @property
    def sizes(self) -> str:
        """`1B to 20B`, `up to 1B`."""
        low, high = (f"{each / 1000:g}B" for each in (self.min_m, self.max_m))
        return f"{low} to {high}" if self.min_m else f"up to {high}"


class Entry(Record):
    """A recipe of the library."""

    fits: Fits
    recipe: Recipe


def propose(brief: Brief) -> ResearchProposal:
    """Recipes for the goal's method, benchmarks and the base model's size, with the findings they rest on.

    Those that were published for one of the goal's benchmarks come before those that suit every goal; what trains all
    weights comes behind what trains an adapter, for the first one is the pilot, and has to fit. Raises BadInput where
    the library has none.
    """
    benchmarks = [entry.id for entry in brief.goal.benchmark]
    entries, findings = library(brief.goal.distill_from or TEACHER)
    fitting = [
        entry
        for entry in entries
        if entry.recipe.method == brief.method and entry.fits.holds(brief.parameters, benchmarks)
    ]
    if not fitting:
        raise BadInput(
            f"the recipe library has no `{brief.method}` recipe for {brief.parameters / 1e6:.0f}M parameters;"
            " try another base_model"
        )
    best = sorted(fitting, key=lambda entry: (entry.recipe.lora is None, not entry.fits.benchmarks))
    recipes = tuple(entry.recipe for entry in best[:MOST])
    cited = {finding for recipe in recipes for finding in recipe.findings}
    return ResearchProposal(findings=tuple(f for f in findings if f.id in cited), recipes=recipes)


def library(teacher: str = TEACHER) -> tuple[tuple[Entry, ...], tuple[Finding, ...]]:
    """All recipes in the order of the file, and the findings that they rest on."""
    entries, findings = _library()
    return tuple(_entry(plain, teacher) for plain in entries), findings


def _entry(plain: dict[str, Any], teacher: str) -> Entry:
    numbers = {key: value for key, value in plain.items() if key != "fits"}
    if plain["method"] == "distill":
        numbers["teacher"] = teacher
    return Entry(fits=Fits.model_validate(plain["fits"]), recipe=recipe_of(numbers))


@lru_cache(maxsize=1)
def _library() -> tuple[list[dict[str, Any]], tuple[Finding, ...]]:
    table = tomllib.loads(LIBRARY.read_text(encoding="utf-8"))
    for entry in table["recipe"]:
        if entry.get("lora") is False:  # all weights: TOML has no word for nothing
            entry["lora"] = None
    return table["recipe"], tuple(Finding.model_validate(entry) for entry in table["finding"])
