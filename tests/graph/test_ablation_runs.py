"""A run that leaves parts of its incumbent out, and goes on along what these were worth."""

from __future__ import annotations

import pytest

import postgrad
from shared_memory.database import Database
from shared_memory.journal import Journal
from shared_memory.records import DatasetRecord
from shared_memory.settings import Settings
from tests.conftest import MakeGoal

pytestmark = pytest.mark.usefixtures("noop_jobs")


def test_the_third_of_three_experiments_tells_what_a_part_is_worth(make_goal: MakeGoal, settings: Settings) -> None:
    summary = postgrad.run(make_goal(experiments=3, jobs=10))

    assert (summary["status"], summary["champion"]["experiment"]) == ("succeeded", "e2"), summary["error"]
    third = summary["experiments"][2]
    assert (third["branch"], third["parent"], third["change"]) == ("ablate", "e1", "e1 without letter balancing")
    assert third["verdict"] == "discard"
    data = Journal(Database.open(settings.database), summary["run_id"]).all(DatasetRecord)
    assert [each.without for each in data.values()] == [(), ("balance_letters",)]
    assert all(each.evidence and each.evidence.rows_flagged for each in data.values()), "both were searched"
    assert [(each["part"], each["given"], each["other"]) for each in summary["ablations"]] == [
        ("epochs", "e2", "e1"), ("balance_letters", "e1", "e3"),
    ]  # fmt: skip
    report = settings.run_paths(summary["run_id"]).report_md.read_text()
    assert "| epochs | 1 + 1 → 1 | +36.0 ± 9.8 |" in report
    assert "| balance letters | left out | +0.0 ± 0.0 |" in report


def test_it_ablates_side_by_side_once_it_has_improved_and_goes_on_along_what_was_worth_most(
    make_goal: MakeGoal, settings: Settings
) -> None:
    summary = postgrad.run(make_goal(experiments=8), parallel=2)
    branches = [each["branch"] for each in summary["experiments"]]
    assert branches == ["draft", "improve", "improve", "ablate", "ablate", "improve", "improve", "improve"]
    assert [each["change"] for each in summary["experiments"]][3:6] == [
        "e1 without letter balancing",
        "e1 without the place of the right choice in explanations",
        "one more epoch from e2's checkpoint (2 → 3)",
    ]
    again = next(each for each in summary["experiments"] if "learning rate 0.001 → 0.002" in each["change"])
    assert again["id"] == "e3", "what turned out to be worth nothing is not gone on with before all else"
