"""The library of recipes: one for every method and size, each resting on findings that say where they are from."""

from __future__ import annotations

import re
import tomllib

import pytest

from agents.researcher.playbook import LIBRARY
from shared_memory.recipes import METHODS, recipe_of

TABLE = tomllib.loads(LIBRARY.read_text(encoding="utf-8"))
GIVEN = {"distill": {"teacher": "from the goal"}}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("millions", [135, 7000])
def test_there_is_a_recipe_that_can_be_carried_out(method: str, millions: int) -> None:
    fitting = [
        {key: value for key, value in entry.items() if key != "fits"} | GIVEN.get(method, {})
        for entry in TABLE["recipe"]
        if entry["method"] == method and entry["fits"]["min_m"] <= millions < entry["fits"]["max_m"]
    ]
    assert fitting
    for recipe in map(recipe_of, fitting):
        assert recipe.batch % recipe.micro_batch == 0
        assert recipe.reason
        assert recipe.findings


def test_every_recipe_and_finding_says_where_it_is_from() -> None:
    named = {name for entry in TABLE["recipe"] for name in entry["findings"]}
    assert named == {finding["id"] for finding in TABLE["finding"]}
    for entry in [*TABLE["recipe"], *TABLE["finding"]]:
        assert re.search(r"arXiv \d{4}\.\d{5}|Thinking Machines 2025", entry["source"]), entry["id"]
