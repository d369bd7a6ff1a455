"""What a run leaves to the runs after it, and what these are shown of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import postgrad
from graph.context import Context, Desk
from graph.learning import recall, recalled
from shared_memory.database import Database
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.lessons import Conditions, Lesson, Lessons, Measured
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.servers.openai_chat import Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says, words_in

pytestmark = pytest.mark.usefixtures("noop_jobs")


@pytest.fixture(autouse=True)
def _small_recipe(recipe: Any) -> None:
    recipe()


@pytest.mark.slow
def test_a_run_leaves_what_it_tried_with_intervals_and_the_next_one_is_shown_it(
    make_goal: MakeGoal, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = postgrad.run(make_goal(experiments=3))
    assert first["status"] == "succeeded", first
    db = Database.open(settings.database)
    left = {lesson.experiment: lesson for lesson in Lessons(db).find(limit=50)}
    assert {"e1", "e2", "claim"} <= set(left)
    assert left["e1"].tried == "SFT, LoRA r16, lr 0.001, batch 8"
    assert left["e2"].tried.startswith("e1 with epochs 1 → 1 + 1; SFT, LoRA r16")
    assert left["e1"].conditions.model_dump() == {
        "benchmark": "physics", "method": "sft", "family": "tiny-llama", "data": "a generator's rows",
        "parameters": left["e1"].conditions.parameters, "rows": left["e1"].conditions.rows,
    }  # fmt: skip
    effect = left["e1"].effect
    assert effect is not None
    assert effect.ci_low <= effect.delta <= effect.ci_high
    assert (effect.against, effect.part, left["e1"].outcome) == ("baseline", "selection", "keep")
    claimed = left["claim"].effect
    assert claimed is not None
    assert (claimed.part, left["claim"].outcome) == ("report", "win")
    assert Journal(db, first["run_id"]).notes("lessons")["lessons"] == {"lines": []}, "there was nothing to learn from"

    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")
    seen: list[Request] = []

    def script(request: Request) -> Says:
        seen.append(request)
        return playbook_says(request)

    with openai_chat(script) as server:
        path = make_goal(experiments=1)
        goal = path.read_text() + f'[brain]\ndefault = "openai/gpt-4o"\napi_base = "{server.base_url}"\n'
        path.write_text(goal.replace("usd = 0", "usd = 5"))
        second = postgrad.run(path)
    assert second["status"] == "succeeded", second
    lines = Journal(db, second["run_id"]).notes("lessons")["lessons"]["lines"]
    assert {line.split(":")[0] for line in lines} >= {f"{first['run_id']} e1", f"{first['run_id']} e2"}
    assert not any("report items" in line for line in lines), "a search that knew these would steer by them"
    research = next(request for request in seen if facts_in(request)["move"] == "research")
    assert words_in(research)["lessons"] == lines, "inside the fence"
    assert all(line not in json.dumps(facts_in(request)) for request in seen for line in lines)


def test_a_crash_is_passed_on_as_its_kind_and_not_in_the_words_of_its_log(
    make_goal: MakeGoal, settings: Settings, recipe: Any
) -> None:
    recipe(learning_rate=2.0)
    postgrad.run(make_goal(experiments=1))
    [crashed] = Lessons(Database.open(settings.database)).find(limit=50)
    assert crashed.line.endswith("→ crash: diverged")
    assert "the loss is nan" not in crashed.line


def test_many_runs_of_one_goal_leave_each_lesson_once_and_no_score_on_report_items(
    settings: Settings, tiny_model: Path
) -> None:
    db = Database.open(settings.database)
    here = Conditions(benchmark="physics", method="sft", family="tiny-llama", parameters=100_000)
    gain = Measured(against="baseline", delta=0.1, ci_low=0.02, ci_high=0.18, n=100)
    on_report = gain.model_copy(update={"part": "report"})
    for n in range(40):
        for experiment, tried, effect in (
            ("e1", "SFT, LoRA r16", gain), ("e2", "e1 with epochs 1 → 2; SFT, LoRA r16", gain),
            ("claim", "SFT, measured once", on_report),
        ):  # fmt: skip
            left = Lesson(run="", experiment=experiment, tried=tried, conditions=here, outcome="keep", effect=effect)
            Lessons(db).put(f"r{n:02}", left)
    goal = Goal.model_validate({"text": "t", "base_model": str(tiny_model), "benchmark": [{"path": "physics.jsonl"}]})
    desk = Desk("20261201-t-0000", Context(home=str(settings.home)))
    recall(goal, ("sft",), desk)
    told = [line.split(" ")[1] for line in recalled(desk)]
    assert sorted(told) == ["e1:", "e2:"]
