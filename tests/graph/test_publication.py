"""The training data of a run go where the goal wants them, behind the gate and never twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from typer.testing import CliRunner

import postgrad
from postgrad.cli import app
from postgrad.decide import approve_all
from shared_memory.database import Database
from shared_memory.journal import Journal
from shared_memory.records import DatasetRecord
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.servers.hub import Fails, HubServer, hub, point_client_at

pytestmark = [
    pytest.mark.usefixtures("noop_jobs"),
    # The Hub's client hands uploads over in a way that its own HTTP library has deprecated.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning"),
]

TO = "anna/physics-rows"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: Callable[..., None]) -> Iterator[HubServer]:
    recipe()
    with hub() as running:
        point_client_at(running, monkeypatch, tmp_path / "hf")
        yield running


def goal_that_publishes(make_goal: MakeGoal, to: str, approve: str = "auto") -> Path:
    path = make_goal(experiments=1, approve=approve)
    path.write_text(path.read_text().replace("[limits]", f'[output]\ndata_to = "{to}"\n\n[limits]', 1))
    return path


def data_set_of(settings: Settings, run_id: str) -> DatasetRecord:
    (record,) = Journal(Database.open(settings.database), run_id).all(DatasetRecord).values()
    return record


def test_the_data_are_published_privately_after_the_gate_and_the_card_tells_how_they_were_made(
    make_goal: MakeGoal, settings: Settings, server: HubServer
) -> None:
    asked: list[dict[str, Any]] = []

    def decide(requests: list[dict[str, Any]]) -> dict[str, Any]:
        asked.extend(request for request in requests if request["purpose"] == "publication")
        assert not asked or not server.asked("POST /api/datasets/.*/commit"), "nothing leaves before the answer"
        return approve_all(requests)

    summary = postgrad.run(goal_that_publishes(make_goal, TO, approve="ask"), decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    (request,) = asked
    assert request["config"]["to"] == TO
    assert TO in request["title"]
    assert "private" in request["title"]
    assert "decontaminate" in request["script_text"], "a person can read the card"
    repo = server.dataset(TO)
    assert repo.private
    assert "data/train-00000-of-00001.parquet" in repo.head.files
    assert repo.head.oid in Path(summary["report"]).read_text(encoding="utf-8")


def test_a_no_leaves_the_data_at_home_and_the_run_is_none_the_worse(make_goal: MakeGoal, server: HubServer) -> None:
    def decide(requests: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            request["digest"]: {"approved": request["purpose"] != "publication", "reason": "not yet"}
            for request in requests
        }

    summary = postgrad.run(goal_that_publishes(make_goal, TO, approve="ask"), decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    assert not server.asked("POST .*")


def test_a_hub_that_fails_is_tried_again_on_resume_and_trains_nothing_anew(
    make_goal: MakeGoal, settings: Settings, server: HubServer
) -> None:
    server.trouble("POST /api/datasets/.*/commit/.*", Fails(403), times=50)
    summary = postgrad.run(goal_that_publishes(make_goal, TO))
    assert summary["status"] == "failed"
    assert "could not be published" in summary["error"]
    assert summary["champion"]["experiment"] == "e1", "the model is saved all the same"

    server.calm()
    again = postgrad.resume(summary["run_id"])

    assert again["status"] == "succeeded", again["error"]
    assert again["spent"]["jobs"] == summary["spent"]["jobs"] + 1
    assert len(server.dataset(TO).commits) == 2, "the empty repository, and the data"


def test_a_folder_gets_the_data_without_a_question_under_paid(
    make_goal: MakeGoal, settings: Settings, server: HubServer, tmp_path: Path
) -> None:
    folder = tmp_path / "published"
    summary = postgrad.run(goal_that_publishes(make_goal, str(folder), approve="paid"))

    assert summary["status"] == "succeeded", summary["error"]
    loaded = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == data_set_of(settings, summary["run_id"]).rows
    assert not server.asked(".*")


def test_what_goes_to_the_hub_is_asked_about_under_paid(make_goal: MakeGoal, server: HubServer) -> None:
    summary = postgrad.run(goal_that_publishes(make_goal, TO, approve="paid"))
    assert summary["status"] == "waiting"
    assert not server.asked("POST .*")


def test_the_data_of_a_finished_run_are_published_by_a_command(
    make_goal: MakeGoal, settings: Settings, server: HubServer, tmp_path: Path
) -> None:
    run_id = postgrad.run(make_goal(experiments=1))["run_id"]
    command = CliRunner()

    asked = command.invoke(app, ["publish", run_id, "--to", TO], input="n\n")
    assert asked.exit_code != 0
    assert not server.asked("POST .*")

    told = command.invoke(app, ["publish", run_id, "--to", TO, "--yes", "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["revision"] == server.dataset(TO).head.oid

    kept = command.invoke(app, ["publish", run_id, "--to", str(tmp_path / "rows")])
    assert kept.exit_code == 0, kept.output
    assert (tmp_path / "rows" / "README.md").is_file()
