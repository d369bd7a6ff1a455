"""What happens after something went wrong: edits, refusals, cancelled and resumed runs, ends cut in two by a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.data_engineer.proposal import Generate
from agents.data_engineer.synthesis.teacher import estimate
from graph.consent import consent_for, envelope_of
from graph.forecast import forecast
from postgrad.decide import approve_all
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.goal import Goal, Output
from shared_memory.goal_reading import read_goal
from shared_memory.journal import Journal
from shared_memory.ledger import Ledger
from shared_memory.records import ComparisonResult, Decision, Job
from shared_memory.runs import Runs, RunStatus
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.graph.test_door import spec_of

pytestmark = pytest.mark.usefixtures("noop_jobs")


@pytest.fixture(autouse=True)
def _small_recipe(recipe: Callable[..., None]) -> None:
    recipe()


def test_what_leaves_this_machine_is_asked_about_each_time_whatever_was_approved_before() -> None:
    at_home = spec_of(1, 0).model_copy(update={"runner": "teacher", "flavor": "own"})
    elsewhere = at_home.model_copy(update={"flavor": "hosted"})
    assert at_home.scope == elsewhere.scope
    yes = Decision(spec_digest=at_home.digest, approved=True, by="person", envelope=envelope_of(at_home))
    assert consent_for(elsewhere, [yes], []) is None


def test_a_later_no_takes_an_earlier_yes_back() -> None:
    asked, again = spec_of(1, 0), spec_of(1, 0).model_copy(update={"timeout_seconds": 50})
    assert asked.scope == again.scope
    yes = Decision(spec_digest=asked.digest, approved=True, by="person", envelope=envelope_of(asked))
    no = yes.model_copy(update={"approved": False})

    assert consent_for(again, [yes], []) == yes
    assert consent_for(again, [yes, no], []) is None
    assert consent_for(asked, [yes], []) is None, "a person's own word on exactly this job goes before"
    other = asked.model_copy(update={"config": {"number": 2}})
    assert consent_for(other, [yes], []) is None


def edit_training(**changes: Any) -> Callable[[list[Any]], Any]:
    """A person who edits every training config once, and approves everything else."""
    seen: set[str] = set()

    def decide(requests: list[Any]) -> Any:
        (request,) = requests
        if request["purpose"] == "training" and request["experiment"] not in seen:
            seen.add(request["experiment"])
            return {request["digest"]: {"edit": {"config": {**request["config"], **changes}}}}
        return approve_all(requests)

    return decide


def test_what_a_person_edited_is_what_the_record_says(make_goal: MakeGoal) -> None:
    summary = postgrad.run(make_goal(approve="ask", experiments=1), decide=edit_training(epochs=2, warmup_ratio=0.3))

    assert summary["status"] == "succeeded", summary["error"]
    recipe = summary["experiments"][0]["recipe"]
    assert (recipe["epochs"], recipe["warmup_ratio"]) == (2, 0.3)
    assert "edited" in summary["experiments"][0]["change"]


def test_an_edit_that_is_no_recipe_costs_no_training_and_can_be_made_again(make_goal: MakeGoal) -> None:
    bad = edit_training(lr_scheduler="constant_with_warmup")
    summary = postgrad.run(make_goal(approve="ask", experiments=1), decide=bad)
    assert summary["status"] == "failed"
    assert "lr_scheduler" in summary["error"]
    assert summary["spent"]["jobs"] == 2, "the baseline and the data"

    resumed = postgrad.resume(summary["run_id"], decide=approve_all)
    assert resumed["outcome"] == "improved"


def test_the_claim_is_made_once_also_where_a_run_is_resumed_after_it(make_goal: MakeGoal, settings: Settings) -> None:
    def decide(requests: list[Any]) -> Any:
        no = any(request["experiment"] == "e2" and request["purpose"] == "training" for request in requests)
        return False if no else approve_all(requests)

    first = postgrad.run(make_goal(approve="ask"), decide=decide)
    assert first["champion"]["experiment"] == "e1"
    runs = Runs(Database.open(settings.database))
    runs.update(first["run_id"], status=RunStatus.FAILED)

    resumed = postgrad.resume(first["run_id"], decide=approve_all)
    assert resumed["champion"]["experiment"] == "e1"
    claims = Journal(Database.open(settings.database), first["run_id"]).history(ComparisonResult, "physics")
    assert len(claims) == 1


def test_a_cancelled_run_that_goes_on_hands_the_merged_model_over(make_goal: MakeGoal, settings: Settings) -> None:
    def cancels(requests: list[Any]) -> Any:
        if requests[0]["experiment"] == "e2":
            Runs(Database.open(settings.database)).request_cancel(only(settings))
        return approve_all(requests)

    cancelled = postgrad.run(make_goal(approve="ask"), decide=cancels)
    assert cancelled["status"] == "cancelled"
    assert Path(cancelled["champion"]["model"]).name == "adapter"

    resumed = postgrad.resume(cancelled["run_id"], decide=approve_all)
    assert resumed["status"] == "succeeded", resumed["error"]
    assert Path(resumed["champion"]["model"]).name == "merged"


def only(settings: Settings) -> str:
    (row,) = Runs(Database.open(settings.database)).list()
    return row.run_id


def test_a_benchmark_with_items_of_one_part_alone_can_be_scored(make_goal: MakeGoal, settings: Settings) -> None:
    goal = make_goal(experiments=0)
    benchmark = next(line for line in goal.read_text().splitlines() if line.startswith("path")).split('"')[1]
    rows = [json.loads(line) for line in Path(benchmark).read_text().splitlines()]
    Path(benchmark).write_text("".join(json.dumps({**row, "Part": "report"}) + "\n" for row in rows[:30]))

    summary = postgrad.run(goal)
    assert summary["status"] == "succeeded"
    assert summary["spent"]["jobs"] == 1
    assert forecast(Goal.model_validate(summary["goal"])).jobs == 1


def test_the_plan_counts_the_publication_and_the_checks_of_a_teachers_choices(make_goal: MakeGoal) -> None:
    bare = read_goal(make_goal(experiments=3, jobs=10, generator=""))
    taught = bare.data.model_copy(update={"teacher": "openai/gpt-4o"})
    goal = bare.model_copy(update={"data": taught, "output": Output(data_to="anna/rows")})

    plan = forecast(goal)

    assert [step.move for step in plan.steps][-1] == "publish"
    assert "anna/rows, private" in plan.steps[-1].what
    assert plan.jobs <= 10
    assert any("room for 2 of 3 experiments" in note for note in plan.notes)
    data = next(step for step in plan.steps if step.move == "data")
    asked = Generate(teacher="openai/gpt-4o", rows=int(data.what.split()[1]), seed=0, verify="majority")
    assert data.worst_usd == estimate(asked, goal).usd_micro / 1e6, "the benchmark is multiple choice, so rows are too"


def test_a_job_whose_end_was_booked_by_halves_is_booked_whole_when_the_run_goes_on(
    make_goal: MakeGoal, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, broken = Budget.settle, [True]

    def fails_once(self: Budget, key: str, usd_micro: int, tokens: int = 0) -> None:
        if broken.pop() if broken else False:
            raise OSError(28, "No space left on device")
        real(self, key, usd_micro, tokens)

    monkeypatch.setattr(Budget, "settle", fails_once)
    stopped = postgrad.run(make_goal(experiments=1))
    assert stopped["status"] == "failed"

    resumed = postgrad.resume(stopped["run_id"])
    assert resumed["status"] == "succeeded", resumed["error"]
    db = Database.open(settings.database)
    booked = {action.key for action in Ledger(db, stopped["run_id"]).actions()}
    assert booked == set(Journal(db, stopped["run_id"]).all(Job)), "no job is missing from the report"
    assert Budget(db, stopped["run_id"], Goal.model_validate(resumed["goal"]).limits).spent().held_usd_micro == 0


def test_a_run_that_failed_before_it_began_can_be_cancelled(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path
) -> None:
    goal = make_goal()
    run_id = postgrad.api.open_run(postgrad.api.as_goal(goal), settings)
    (tmp_path / "physics.jsonl").unlink()
    assert postgrad.resume(run_id)["status"] == "failed"

    Runs(Database.open(settings.database)).request_cancel(run_id)
    assert postgrad.resume(run_id)["status"] == "cancelled"


def test_no_secret_of_a_goal_reaches_the_record_or_the_model_card(make_goal: MakeGoal, settings: Settings) -> None:
    secret = "hf_" + "Ab3" * 11
    summary = postgrad.run(make_goal(text=f"use {secret} to log in", experiments=1))

    assert summary["status"] == "succeeded"
    written = b"".join(file.read_bytes() for file in settings.home.rglob("*") if file.is_file())
    assert secret.encode() not in written
