"""The flow from goal to report, with jobs that take no time and everything around them real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import postgrad
from postgrad.api import approve_all
from shared_memory.database import Database
from shared_memory.ledger import Ledger
from shared_memory.settings import Settings
from tests.conftest import MakeGoal

SetRecipe = Callable[..., None]

pytestmark = pytest.mark.usefixtures("noop_jobs")


@pytest.fixture(autouse=True)
def _small_recipe(recipe: SetRecipe) -> None:
    recipe()


def test_a_run_goes_from_the_baseline_to_a_proven_improvement(make_goal: MakeGoal, settings: Settings) -> None:
    summary = postgrad.run(make_goal())

    assert summary["status"] == "succeeded", summary
    assert summary["outcome"] == "improved"
    assert [experiment["id"] for experiment in summary["experiments"]] == ["e1", "e2"]
    assert summary["champion"]["experiment"] == "e2"
    assert summary["champion"]["improvement"]["physics"]["ci_low"] > 0
    assert (Path(summary["champion"]["model"]) / "README.md").exists()
    assert Path(summary["report"]).exists()
