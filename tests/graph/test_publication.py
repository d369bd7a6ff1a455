"""The training data and the model of a run go where the goal wants them, behind the gate and never twice."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from typer.testing import CliRunner

import postgrad
from postgrad.cli import app
from postgrad.decide import Request, approve_all
from postgrad.events import Event
from shared_memory.database import Database
from shared_memory.journal import Journal
from shared_memory.ledger import Ledger
from shared_memory.records import DatasetRecord
from shared_memory.runs import Runs
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import only_run, wait_until
from tests.servers.hub import Fails, HubServer, hub, point_client_at

pytestmark = [
    pytest.mark.usefixtures("noop_jobs"),
    # The Hub's client hands uploads over in a way that its own HTTP library has deprecated.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning"),
]

TO = "anna/physics-rows"
MODEL = "anna/physicist"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: Callable[..., None]) -> Iterator[HubServer]:
    recipe()
    with hub() as running:
        point_client_at(running, monkeypatch, tmp_path / "hf")
        yield running


def goal_that_publishes(make_goal: MakeGoal, to: str, approve: str = "auto", key: str = "data_to", **more: Any) -> Path:
    path = make_goal(experiments=1, approve=approve, **more)
    path.write_text(path.read_text().replace("[limits]", f'[output]\n{key} = "{to}"\n\n[limits]', 1))
    return path


def goal_that_pushes(make_goal: MakeGoal, to: str = MODEL, approve: str = "auto", **more: Any) -> Path:
    return goal_that_publishes(make_goal, to, approve, "push_to", **more)


def data_set_of(settings: Settings, run_id: str) -> DatasetRecord:
    (record,) = Journal(Database.open(settings.database), run_id).all(DatasetRecord).values()
    return record


def test_the_data_are_published_privately_after_the_gate_and_the_card_tells_how_they_were_made(
    make_goal: MakeGoal, settings: Settings, server: HubServer
) -> None:
    asked: list[Request] = []

    def decide(requests: Sequence[Request]) -> Mapping[str, Any]:
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
    def decide(requests: Sequence[Request]) -> Mapping[str, Any]:
        return {
            request["digest"]: {"approved": request["purpose"] != "publication", "reason": "not yet"}
            for request in requests
        }

    summary = postgrad.run(goal_that_publishes(make_goal, TO, approve="ask"), decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    assert not server.asked("POST .*")


def test_a_publication_that_takes_long_is_cancelled_before_anything_is_on_the_hub_and_done_on_resume(
    make_goal: MakeGoal, settings: Settings, server: HubServer
) -> None:
    server.trouble("GET /api/whoami.*", Fails(429, {"retry-after": "3"}))

    def cancel(event: Event) -> None:
        if event.kind == "job" and event.purpose == "publication" and not event.error:
            Runs(Database.open(settings.database)).request_cancel(only_run(settings))

    summary = postgrad.run(goal_that_publishes(make_goal, TO), on_event=cancel)

    assert summary["status"] == "cancelled", summary["error"]
    wait_until(lambda: not any(thread.name == "publication" for thread in threading.enumerate()))
    assert not server.asked("POST .*"), "not even an empty repository"
    assert summary["champion"]["experiment"] == "e1"
    assert postgrad.resume(summary["run_id"])["status"] == "succeeded"
    assert len(server.dataset(TO).commits) == 2


def test_an_edited_publication_is_asked_about_as_what_it_is_now_and_its_card_is_not_to_be_edited(
    make_goal: MakeGoal, settings: Settings, server: HubServer
) -> None:
    seen: list[Request] = []

    def decide(requests: Sequence[Request]) -> Mapping[str, Any] | None:
        (request,) = requests
        if request["purpose"] != "publication":
            return approve_all(requests)
        seen.append(request)
        if len(seen) == 1:
            changed = {**request["config"], "to": "anna/other-rows", "private": False}
            return {request["digest"]: {"edit": {"config": changed}}}
        return {request["digest"]: {"edit": {"files": {"README.md": "all mine"}}}} if len(seen) == 2 else None

    summary = postgrad.run(goal_that_publishes(make_goal, TO, approve="ask"), decide=decide)

    assert summary["status"] == "waiting"
    assert "anna/other-rows, for everybody to read" in seen[1]["title"]
    assert "everybody will be able to read it" in seen[1]["title"]
    assert 'load_dataset("anna/other-rows"' in seen[1]["script_text"]
    asked = Runs(Database.open(settings.database)).get(summary["run_id"]).request
    assert asked is not None
    assert "edits `README.md`" in asked["note"]
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
    database = Database.open(settings.database)
    assert Ledger(database, run_id).decisions()[-1].reason == "postgrad publish", "the yes is on record"
    (noted,) = Journal(database, run_id).notes("published").values()
    assert noted["revision"] == server.dataset(TO).head.oid

    kept = command.invoke(app, ["publish", run_id, "--to", str(tmp_path / "rows")])
    assert kept.exit_code == 0, kept.output
    assert (tmp_path / "rows" / "README.md").is_file()


def test_the_model_is_pushed_after_the_gate_with_its_adapter_and_a_card(
    make_goal: MakeGoal, settings: Settings, server: HubServer
) -> None:
    asked: list[Request] = []

    def decide(requests: Sequence[Request]) -> Mapping[str, Any]:
        asked.extend(request for request in requests if request["purpose"] == "publication")
        assert not server.asked("POST .*"), "nothing leaves before the answer"
        return approve_all(requests)

    summary = postgrad.run(goal_that_pushes(make_goal, approve="ask"), decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    (request,) = asked
    assert f"publish the merged model of e1: {MODEL}, private" in request["title"]
    repo = server.repos["models", MODEL]
    assert repo.private
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= repo.head.files.keys()
    assert "adapter/adapter_model.safetensors" in repo.head.files
    assert "quality.json" not in repo.head.files, "only what loading needs leaves"
    assert repo.head.files["README.md"].content.decode() == request["script_text"], "a person has read the card"
    (noted,) = Journal(Database.open(settings.database), summary["run_id"]).notes("pushed").values()
    assert noted["revision"] == repo.head.oid
    assert repo.head.oid in Path(summary["report"]).read_text(encoding="utf-8")


def test_a_person_and_a_licence_can_each_keep_the_model_at_home(
    make_goal: MakeGoal, server: HubServer, tiny_model: Path, tmp_path: Path
) -> None:
    def decide(requests: Sequence[Request]) -> Mapping[str, Any]:
        return {
            request["digest"]: {"approved": request["purpose"] != "publication", "reason": "not yet"}
            for request in requests
        }

    refused = postgrad.run(goal_that_pushes(make_goal, approve="ask"), decide=decide)
    assert refused["status"] == "succeeded", refused["error"]
    assert Path(refused["champion"]["model"], "model.safetensors").is_file()

    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "README.md").write_text("---\nlicense: cc-by-nc-nd-4.0\n---\n")
    told: list[Event] = []
    kept = postgrad.run(goal_that_pushes(make_goal, model=base), on_event=told.append)
    assert kept["status"] == "succeeded", kept["error"]
    why = "the model is not published: the licence cc-by-nc-nd-4.0 of base forbids sharing changed copies"
    assert any(event.text.startswith(why) for event in told if event.kind == "note")
    assert not server.asked("POST .*")


def test_a_model_whose_upload_fails_is_pushed_on_resume_and_trained_no_more(
    make_goal: MakeGoal, server: HubServer
) -> None:
    server.trouble("POST /api/models/.*/commit/.*", Fails(403), times=50)
    summary = postgrad.run(goal_that_pushes(make_goal))
    assert summary["status"] == "failed"
    assert summary["error"] == "the model could not be published; `postgrad resume` tries it again"
    assert summary["champion"]["experiment"] == "e1", "it is saved all the same"

    server.calm()
    again = postgrad.resume(summary["run_id"])

    assert again["status"] == "succeeded", again["error"]
    assert again["spent"]["jobs"] == summary["spent"]["jobs"] + 1
    assert "model.safetensors" in server.repos["models", MODEL].head.files


def test_under_paid_a_folder_gets_the_model_without_a_question_and_the_hub_does_not(
    make_goal: MakeGoal, server: HubServer, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "mine"
    summary = postgrad.run(goal_that_pushes(make_goal, str(folder), approve="paid"))
    assert summary["status"] == "succeeded", summary["error"]
    assert {"model.safetensors", "README.md", "adapter"} <= {path.name for path in folder.iterdir()}
    assert not server.asked(".*")

    assert postgrad.run(goal_that_pushes(make_goal, approve="paid"))["status"] == "waiting"
    assert not server.asked("POST .*")


def test_the_model_of_a_finished_run_is_published_by_a_command(
    make_goal: MakeGoal, settings: Settings, server: HubServer, tmp_path: Path
) -> None:
    run_id = postgrad.run(make_goal(experiments=1))["run_id"]
    command = CliRunner()

    asked = command.invoke(app, ["publish", run_id, "--model", "--to", MODEL], input="n\n")
    assert asked.exit_code != 0
    assert not server.asked("POST .*")

    told = command.invoke(app, ["publish", run_id, "--model", "--to", MODEL, "--yes", "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["revision"] == server.repos["models", MODEL].head.oid
    database = Database.open(settings.database)
    assert Ledger(database, run_id).decisions()[-1].reason == "postgrad publish", "the yes is on record"
    (noted,) = Journal(database, run_id).notes("pushed").values()
    assert noted["revision"] == server.repos["models", MODEL].head.oid

    kept = command.invoke(app, ["publish", run_id, "--model", "--to", str(tmp_path / "model")])
    assert kept.exit_code == 0, kept.output
    assert (tmp_path / "model" / "model.safetensors").is_file()
