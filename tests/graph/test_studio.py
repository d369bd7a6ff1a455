"""The graphs behind LangGraph's own server, driven over HTTP as Studio does; jobs take no time, but for one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from langgraph_sdk import get_sync_client

from docs.draw import GRAPHS, PICTURES, source, stamp
from postgrad import studio
from shared_memory.database import Database
from shared_memory.errors import Unavailable
from shared_memory.journal import Journal
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.graph.a_server import Server, Thread
from tests.postgrad.test_cli import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    served = Server(tmp_path_factory.mktemp("studio") / "home")
    served.start()
    try:
        served.wait_until_it_answers()
        yield served
    finally:
        served.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with get_sync_client(url=server.url) as connected:
        yield connected


@pytest.fixture
def goal(make_goal: MakeGoal) -> dict[str, Any]:
    return tomllib.loads(make_goal(approve="ask", experiments=1).read_text())


pytestmark = pytest.mark.timeout(300)


def test_a_goal_is_streamed_approved_and_forked_without_submitting_a_job_twice(
    client: Any, server: Server, goal: dict[str, Any]
) -> None:
    run = Thread(client, "postgrad")
    state = run.start(goal)
    request = state["__interrupt__"][0]["value"]
    assert request["run_id"] == run.id
    assert {"approved": True} in request["answer_with"].values()
    assert client.threads.get(run.id)["status"] == "interrupted"
    state = run.approve_all(state)

    assert (state["status"], state["outcome"]) == ("succeeded", "improved"), state.get("error")
    assert run.purposes == ["evaluation", "generation", "training", "evaluation", "merge", "evaluation"]
    assert {"move", "proposal", "gate", "job", "progress", "verdict", "status"} <= {e["kind"] for e in run.events}
    row = server.row(run.id)
    assert (row.status, row.outcome, row.driver) == ("succeeded", "improved", "studio")

    history = client.threads.get_history(run.id, limit=100)
    assert history[0]["next"] == []
    assert history[-1]["next"] == ["__start__"]
    before_training = next(s for s in history if s["next"] == ["jobs"] and s["values"]["move"] == "draft")
    forked = run.go_on_from(before_training["checkpoint"])
    assert forked["outcome"] == "improved"
    assert len(run.asked) == 10, "a fork asks again"
    assert len(server.actions(run.id)) == 6, "and finds every job done"

    researched = next(s for s in reversed(history) if s["values"].get("recipes") and s["next"] == ["router"])
    recipes = {key: {**recipe, "epochs": 2} for key, recipe in researched["values"]["recipes"].items()}
    changed = client.threads.update_state(
        run.id, {"recipes": recipes}, checkpoint=researched["checkpoint"], as_node="researcher_carry_out"
    )
    forked = run.go_on_from(changed["checkpoint"])
    assert forked["experiments"]["e1"]["recipe"]["epochs"] == 2
    assert forked["claims"]["physics"]["delta"] > state["claims"]["physics"]["delta"], "measured on its own model"
    assert len(server.actions(run.id)) == 10, "trained, scored, merged and scored anew; the rows are the same"


def test_a_rejection_and_its_reason_end_the_run(client: Any, server: Server, goal: dict[str, Any]) -> None:
    run = Thread(client, "postgrad")
    run.start(goal)
    state = run.answer({"approved": False, "reason": "too dear"})

    assert (state["status"], state["experiments"]) == ("cancelled", {})
    assert "too dear" in state["error"]
    assert server.row(run.id).status == "cancelled"
    assert server.actions(run.id) == []


def test_an_answer_that_is_neither_yes_nor_no_is_asked_again(client: Any, server: Server, goal: dict[str, Any]) -> None:
    run = Thread(client, "evaluator")
    run.start(goal)
    for nonsense in ("yse", {"approve": True}, {"approved": "true"}, {"f" * 64: {"approved": True}}):
        state = run.answer(nonsense)
        assert "nothing was approved" in state["__interrupt__"][0]["value"]["note"]
    assert server.actions(run.id) == []

    assert run.answer(" Yes ")["status"] == "succeeded"


@pytest.mark.parametrize(
    ("role", "purposes", "made"),
    [
        ("researcher", [], {"findings", "recipes"}),
        ("data_engineer", ["generation"], {"datasets"}),
        ("trainer", ["generation", "training"], {"findings", "recipes", "datasets", "experiments"}),
        ("evaluator", ["evaluation"], {"results"}),
    ],
)
def test_each_role_does_its_part_alone_and_stops(
    client: Any, server: Server, goal: dict[str, Any], role: str, purposes: list[str], made: set[str]
) -> None:
    run = Thread(client, role)
    state = run.approve_all(run.start(goal))

    assert (state["status"], state["outcome"]) == ("succeeded", "none"), state.get("error")
    assert run.purposes == purposes
    channels = ("findings", "recipes", "datasets", "experiments", "results")
    assert {channel for channel in channels if state[channel]} == made
    assert server.row(run.id).status == "succeeded"
    assert len(server.actions(run.id)) == len(purposes)


def test_a_role_alone_asks_for_no_more_of_a_goal_than_it_needs(
    client: Any, server: Server, goal: dict[str, Any], tmp_path: Path
) -> None:
    bare = {"text": "which recipes are there?", "base_model": goal["base_model"]}
    assert Thread(client, "researcher").start(bare)["status"] == "succeeded"

    rows = [{"prompt": f"what is {n} squared?", "completion": f"it is {n * n}"} for n in range(200)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    unmeasured = {**bare, "data": {"train": [str(file)]}}
    evaluated = Thread(client, "evaluator")
    state = evaluated.approve_all(evaluated.start(unmeasured))
    assert {result["unit"] for result in state["results"].values()} >= {"nats"}
    assert Journal(Database.open(server.settings.database), evaluated.id).notes("held_out")

    preferences = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": f"name {n}", "chosen": f"it is {n}", "rejected": f"no {n} idea"} for n in range(60)]
    preferences.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    state = Thread(client, "data_engineer").start({**bare, "data": {"train": [str(preferences)]}})
    dataset = Path(state["datasets"]["d1"]["path"]).read_text(encoding="utf-8")
    assert "rejected" in dataset, "rows that are made for DPO stay so, without a recipe that says it"


@pytest.mark.slow
def test_a_script_that_was_edited_at_the_gate_is_asked_about_again_and_then_run(
    client: Any, server: Server, goal: dict[str, Any]
) -> None:
    """The one real job: the evaluation as users get it, typed in at the gate."""
    script = ROOT / "agents" / "evaluator" / "scripts" / "generate.py"
    real = f"import runpy, sys\nsys.path.insert(0, {str(script.parent)!r})\n"
    real += f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    run = Thread(client, "evaluator")
    run.start(goal)
    assert run.asked[0]["script_text"] != real
    run.answer({run.asked[0]["digest"]: {"edit": {"files": {"generate.py": real}}}})
    assert run.asked[1]["script_text"] == real
    assert run.asked[1]["digest"] != run.asked[0]["digest"]
    state = run.answer({run.asked[1]["digest"]: {"approved": True}})

    assert state["status"] == "succeeded", state["error"]
    (action,) = server.actions(run.id)
    assert action.job is not None
    assert (Path(action.job.folder) / "generate.py").read_text() == real
    assert state["results"]["baseline/physics/report"]["n"] == 25


def test_a_goal_that_cannot_be_worked_on_is_refused_in_one_line(client: Any, goal: dict[str, Any]) -> None:
    goal["benchmark"][0]["path"] = "/nowhere.jsonl"
    error = Thread(client, "postgrad").start(goal)["__error__"]

    assert error["error"] == "BadInput"
    assert error["message"] == "benchmark file /nowhere.jsonl does not exist; check [[benchmark]] path"


def test_the_goal_is_studios_form(client: Any) -> None:
    assistants = {assistant["graph_id"]: assistant for assistant in client.assistants.search()}
    assert assistants.keys() == studio.GRAPHS.keys()
    for assistant in assistants.values():
        schema = client.assistants.get_schemas(assistant["assistant_id"])["input_schema"]
        assert schema["required"] == ["text"]
        records = [schema, *schema["$defs"].values()]
        untold = [f"{r['title']}.{key}" for r in records for key, value in r["properties"].items()
                  if "description" not in value and "$ref" not in value]  # fmt: skip
        assert not untold, "a person who fills the form in is told what every field means"
    assert schema["$defs"]["RunOptions"]["properties"]["approve"]["enum"] == ["ask", "paid", "auto"]

    drawn = client.assistants.get_graph(assistants["postgrad"]["assistant_id"], xray=True)
    assert {"router", "trainer_propose", "jobs:gate", "jobs:watch", "verdict"} <= {n["id"] for n in drawn["nodes"]}
    assert {"jobs to run", "edited", "a slot is free", "another way"} <= {edge.get("data") for edge in drawn["edges"]}


@pytest.mark.slow
def test_ctrl_c_ends_the_server_and_the_next_one_goes_on_with_what_ran(
    tmp_path: Path, goal: dict[str, Any], server: Server
) -> None:
    slow = tmp_path / "slow.py"
    main = 'if __name__ == "__main__":\n'
    slow.write_text(
        Path(goal["data"]["generator"]).read_text().replace(main, f"{main}    __import__('time').sleep(5)\n")
    )
    goal["data"]["generator"] = str(slow)
    with get_sync_client(url=server.url) as client:
        run = Thread(client, "data_engineer")
        run.start(goal)
        client.runs.create(run.id, "data_engineer", command={"resume": True})
        wait_until(lambda: server.actions(run.id) and server.actions(run.id)[0].backend_id)
    assert server.stop() == 0

    server.start()
    server.wait_until_it_answers()
    wait_until(lambda: server.row(run.id).status == "succeeded")
    (action,) = server.actions(run.id)
    assert action.attempt == 1


def test_a_taken_port_and_a_killed_server_are_said_in_one_line(server: Server, tmp_path: Path) -> None:
    second = Server(tmp_path / "second", port=server.port)
    second.start()
    assert second.process is not None
    assert second.process.wait(60) == 1
    assert second.log.startswith(f"error: port {server.port} cannot be used")
    assert "Traceback" not in second.log

    killed = Server(tmp_path / "killed")
    killed.start()
    assert killed.process is not None
    parent = psutil.Process(killed.process.pid)
    (child,) = wait_until(parent.children)
    child.kill()
    assert killed.process.wait(60) == 1
    assert "error: the server was killed (signal 9)" in killed.log


def test_without_the_extra_it_says_what_to_install(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"pip install 'postgrad\[studio\]'"):
        studio.serve(settings, 2024, browser=False)


def test_langgraph_json_serves_the_same_graphs() -> None:
    assert json.loads((ROOT / "langgraph.json").read_text())["graphs"] == studio.GRAPHS


@pytest.mark.parametrize("name", GRAPHS)
def test_the_pictures_show_the_graphs_as_they_are(name: str) -> None:
    picture = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    assert stamp(source(GRAPHS[name])) in picture, "the graph has changed: python -m docs.draw"
    assert f"graphs/{name}.svg" in (ROOT / "docs" / "studio.md").read_text(encoding="utf-8")
