"""The flow from goal to report, with jobs that take no time and everything around them real."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.trainer import training
from postgrad.api import cancel
from postgrad.decide import approve_all
from shared_memory.database import Database
from shared_memory.errors import Unavailable
from shared_memory.ledger import Ledger
from shared_memory.runs import Runs
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import wait_until

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


def test_every_job_stops_at_the_gate_and_is_asked_once(make_goal: MakeGoal, settings: Settings) -> None:
    asked: list[list[str]] = []

    def decide(requests: list[dict[str, object]]) -> dict[str, object]:
        asked.append([str(request["purpose"]) for request in requests])
        assert all(request["script_text"] and request["config"] for request in requests)
        return approve_all(requests)

    summary = postgrad.run(make_goal(approve="ask"), decide=decide)

    assert summary["outcome"] == "improved"
    assert asked == [
        ["evaluation"], ["generation"],
        ["training"], ["evaluation"], ["training"], ["evaluation"],
        ["merge"], ["evaluation"],
    ]  # fmt: skip
    decisions = Ledger(Database.open(settings.database), summary["run_id"]).decisions()
    assert [decision.by for decision in decisions] == ["person"] * 8


def test_a_script_that_was_changed_on_disk_after_it_was_shown_is_not_run_and_can_be_brought_back(
    make_goal: MakeGoal, settings: Settings
) -> None:
    parked = postgrad.run(make_goal(approve="ask", experiments=0))
    (files,) = settings.home.glob("runs/*/files")
    (script,) = [path for path in files.iterdir() if b"import" in path.read_bytes()]
    shown = script.read_bytes()
    script.write_bytes(shown + b"# not shown")

    summary = postgrad.resume(parked["run_id"], decide=approve_all)
    assert summary["status"] == "failed"
    assert "generate.py is not what was approved" in summary["error"]
    assert not list(settings.home.glob("runs/*/jobs/*/generate.py"))

    script.write_bytes(shown)
    assert postgrad.resume(parked["run_id"], decide=approve_all)["status"] == "succeeded"


def test_without_an_answer_the_run_waits_and_nothing_was_started(make_goal: MakeGoal, settings: Settings) -> None:
    summary = postgrad.run(make_goal(approve="ask"))

    assert summary["status"] == "waiting"
    assert not list(settings.run_paths(summary["run_id"]).jobs.glob("*"))

    resumed = postgrad.resume(summary["run_id"], decide=approve_all)
    assert resumed["outcome"] == "improved"


def test_paid_approval_asks_for_nothing_that_is_free_and_stays_here(make_goal: MakeGoal, settings: Settings) -> None:
    summary = postgrad.run(make_goal(approve="paid", experiments=1))

    assert summary["status"] == "succeeded"
    decisions = Ledger(Database.open(settings.database), summary["run_id"]).decisions()
    assert {decision.by for decision in decisions} == {"policy"}


def test_a_rejected_training_ends_the_run_with_the_reason(make_goal: MakeGoal, settings: Settings) -> None:
    def decide(requests: list[dict[str, object]]) -> dict[str, object]:
        training = requests[0]["purpose"] == "training"
        return {str(requests[0]["digest"]): {"approved": not training, "reason": "too hot" if training else ""}}

    summary = postgrad.run(make_goal(approve="ask"), decide=decide)

    assert summary["status"] == "cancelled"
    assert summary["champion"]["experiment"] == "baseline"
    assert summary["experiments"][0]["verdict"] == "discard"
    error = json.loads(settings.run_paths(summary["run_id"]).report_json.read_text())["error"]
    assert "rejected: too hot" in error


def test_a_rejected_child_leaves_its_parent_the_champion(make_goal: MakeGoal) -> None:
    def decide(requests: list[dict[str, object]]) -> dict[str, object]:
        second = requests[0]["purpose"] == "training" and requests[0]["experiment"] == "e2"
        return {str(requests[0]["digest"]): {"approved": not second}}

    summary = postgrad.run(make_goal(approve="ask"), decide=decide)

    assert summary["status"] == "succeeded"
    assert summary["champion"]["experiment"] == "e1"
    assert summary["outcome"] == "improved"


def test_an_edited_job_is_checked_and_asked_again_under_its_new_digest(make_goal: MakeGoal, settings: Settings) -> None:
    seen: list[tuple[str, float]] = []

    def decide(requests: list[dict[str, object]]) -> dict[str, object]:
        request = requests[0]
        digest, config = str(request["digest"]), dict(request["config"])  # type: ignore[call-overload]
        if request["purpose"] == "training" and request["experiment"] == "e1":
            seen.append((digest, config["learning_rate"]))
            if config["learning_rate"] == 1e-3:
                return {digest: {"edit": {"config": {**config, "learning_rate": 5e-4}}}}
        return approve_all(requests)

    summary = postgrad.run(make_goal(approve="ask", experiments=1), decide=decide)

    assert summary["status"] == "succeeded"
    assert [rate for _, rate in seen] == [1e-3, 5e-4]
    assert seen[0][0] != seen[1][0]
    (folder,) = {path.parent for path in settings.run_paths(summary["run_id"]).jobs.glob("*/train.py")}
    assert json.loads((folder / "config.json").read_text())["learning_rate"] == 5e-4


def test_a_crashed_training_fails_the_run_with_its_cause_and_can_be_resumed(
    make_goal: MakeGoal, settings: Settings, recipe: SetRecipe
) -> None:
    recipe(learning_rate=2.0)
    summary = postgrad.run(make_goal(experiments=1))

    assert summary["status"] == "failed"
    report = json.loads(settings.run_paths(summary["run_id"]).report_json.read_text())
    assert "the loss is nan" in report["error"]

    again = postgrad.resume(summary["run_id"])
    assert again["status"] == "failed"
    actions = Ledger(Database.open(settings.database), summary["run_id"]).actions()
    assert [a.attempt for a in actions if a.purpose == "training"] == [1, 2]
    assert [a.attempt for a in actions if a.purpose == "evaluation"] == [1], "the baseline is not measured twice"


def test_a_cap_on_jobs_ends_the_run_over_budget_with_the_best_model_delivered(
    make_goal: MakeGoal, settings: Settings
) -> None:
    summary = postgrad.run(make_goal(jobs=7, experiments=5))

    assert summary["status"] == "over_budget"
    assert summary["champion"]["experiment"] == "e1"
    assert summary["outcome"] == "improved"
    assert len(Ledger(Database.open(settings.database), summary["run_id"]).actions()) <= 7


def test_a_cap_too_small_for_the_baseline_delivers_nothing_and_says_so(make_goal: MakeGoal) -> None:
    summary = postgrad.run(make_goal(jobs=1))

    assert summary["status"] == "over_budget"
    assert summary["experiments"] == []
    assert summary["champion"]["experiment"] == "baseline"


def test_a_run_out_of_time_stops_its_job_and_reports(make_goal: MakeGoal, recipe: SetRecipe) -> None:
    recipe(learning_rate=20.0)
    summary = postgrad.run(make_goal(hours=20 / 3600))

    assert summary["status"] == "timed_out"
    assert summary["champion"]["experiment"] == "baseline"


def test_an_unknown_option_names_the_known_ones(make_goal: MakeGoal) -> None:
    with pytest.raises(postgrad.PostgradError, match="no option of a run"):
        postgrad.run(make_goal(), budget=3)


def test_stream_tells_the_moves_in_order(make_goal: MakeGoal, settings: Settings) -> None:
    events = list(postgrad.stream(make_goal(experiments=1)))

    moves = [event.move for event in events if event.kind == "move"]
    assert moves == ["baseline", "research", "data", "data", "draft", "candidate", "deliver", "confirm", "stop"]
    assert events[-1].kind == "status"
    assert events[-1].status == "succeeded"


def test_a_run_parked_in_the_middle_of_a_job_returns_at_once_and_cancel_ends_the_job(
    make_goal: MakeGoal, settings: Settings, recipe: SetRecipe
) -> None:
    recipe(learning_rate=20.0)
    events = postgrad.stream(make_goal())
    for event in events:
        if event.kind == "progress" and event.purpose == "training":
            break
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 20

    runs = Runs(Database.open(settings.database))
    (row,) = runs.list()
    assert row.status == "interrupted"
    cancel(settings, row.run_id)
    wait_until(lambda: runs.get(row.run_id).status == "cancelled")
    job = Ledger(Database.open(settings.database), row.run_id).actions()[-1].job
    assert job is not None
    assert job.state == "cancelled"


def test_a_run_stuck_at_a_failing_node_can_be_cancelled_and_still_delivers(
    make_goal: MakeGoal, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.training_job

    def fails_for_e2(experiment: Any, **rest: Any) -> Any:
        if experiment.id == "e2":
            raise Unavailable("no device is left; plug one in")
        return real(experiment, **rest)

    monkeypatch.setattr(training, "training_job", fails_for_e2)
    stuck = postgrad.run(make_goal())
    assert stuck["status"] == "failed"
    assert "no device is left" in stuck["error"]

    Runs(Database.open(settings.database)).request_cancel(stuck["run_id"])
    ended = postgrad.resume(stuck["run_id"])
    assert ended["status"] == "cancelled"
    assert ended["champion"]["experiment"] == "e1"
    assert Path(ended["champion"]["model"]).is_dir()


def test_an_edited_evaluation_is_not_compared_with_the_others(make_goal: MakeGoal) -> None:
    def decide(requests: list[dict[str, Any]]) -> dict[str, Any]:
        (request,) = requests
        untouched = request["config"].get("max_tokens") == 16
        if request["experiment"] == "e1" and request["purpose"] == "evaluation" and untouched:
            return {request["digest"]: {"edit": {"config": {**request["config"], "max_tokens": 999}}}}
        return approve_all(requests)

    summary = postgrad.run(make_goal(approve="ask", experiments=1), decide=decide)

    assert summary["status"] == "failed"
    assert "other settings than the baseline" in summary["error"]
    assert summary["champion"]["experiment"] == "baseline"


def test_a_job_without_its_output_is_a_failed_job_and_can_be_tried_again(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path
) -> None:
    script = tmp_path / "generator.py"
    script.write_text('print(\'{"result": {"rows": 0}}\')\n')
    summary = postgrad.run(make_goal(generator=script))
    assert summary["status"] == "failed"
    assert "data.jsonl is missing" in summary["error"]

    resumed = postgrad.resume(summary["run_id"])
    attempts = [a.attempt for a in Ledger(Database.open(settings.database), summary["run_id"]).actions()]
    assert resumed["status"] == "failed"
    assert attempts == [1, 1, 2]
