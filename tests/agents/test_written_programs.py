"""Programs that a language model writes in a run: shown at the gate, run in the sandbox, given up where they fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents import sandbox
from agents.brain import Move
from agents.programs import WRITTEN
from agents.trainer import agent as trainer
from agents.trainer.proposal import Plan, TrainingProposal
from postgrad.decide import Request, approve_all
from shared_memory.database import Database
from shared_memory.jobs import JobSpec, Purpose
from shared_memory.journal import Journal
from shared_memory.settings import Settings
from tests.agents.briefs import E1, GOAL, brief
from tests.conftest import QUICKSTART, MakeGoal
from tests.graph.test_custom_script import SCRIPT
from tests.servers.openai_chat import Reply, Says, openai_chat
from tests.servers.openai_chat import Request as Asked
from tests.servers.playbook_replies import facts_in, playbook_says, words_in

isolated = pytest.mark.skipif(bool(sandbox.fault_of_this_machine()), reason=sandbox.fault_of_this_machine())
TRAINS = SCRIPT.format(middle="", home=str(Path(__file__)))
WRITES = (QUICKSTART / "questions.py").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _a_run_of_no_time(noop_jobs: None, recipe: Callable[..., None]) -> None:
    recipe()


def run(path: Path, base_url: str, asked: list[Request], **changes: object) -> dict[str, Any]:
    def decide(requests: Sequence[Request]) -> Any:
        asked.extend(requests)
        return approve_all(requests)

    path.write_text(f'{path.read_text()}[brain]\ndefault = "openai/a-model"\napi_base = "{base_url}"\n')
    return postgrad.run(path, decide=decide, **changes)  # type: ignore[arg-type]


@isolated
@pytest.mark.slow
def test_a_training_script_of_the_models_own_is_shown_and_trains_in_the_sandbox_whatever_the_goal_allows(
    make_goal: MakeGoal, settings: Settings
) -> None:
    def script(request: Asked) -> Reply:
        said = playbook_says(request)
        if facts_in(request)["move"] == "improve":
            parent = facts_in(request)["experiments"][facts_in(request)["experiment"]]["recipe"]
            plan = {"parent": facts_in(request)["experiment"], "change": "", "why": "a loss of its own",
                    "recipe": {**said.content["plans"][0]["recipe"], **parent}, "script": TRAINS}  # fmt: skip
            return Says({"plans": [plan], "why": ""})
        return said

    asked: list[Request] = []
    with openai_chat(script) as server:
        summary = run(make_goal(approve="paid"), server.base_url, asked, sandbox="none")

    assert summary["status"] == "succeeded", summary["error"]
    (shown,) = (request for request in asked if request["purpose"] == "training")
    assert shown["custom"]
    assert shown["script"] == WRITTEN
    assert "by a script that openai/a-model wrote" in shown["title"]
    second = summary["experiments"][1]
    assert "by a script that openai/a-model wrote" in second["change"]
    jobs = settings.run_paths(summary["run_id"]).jobs
    written = [folder for folder in jobs.iterdir() if (folder / WRITTEN).is_file()]
    assert (written[0] / WRITTEN).read_text() == TRAINS
    assert '"home": false' in (written[0] / "log.txt").read_text(), "this repository is out of its sight"


@isolated
@pytest.mark.slow
def test_what_a_person_made_of_a_models_script_trains_its_children_and_can_be_ablated(
    make_goal: MakeGoal, settings: Settings
) -> None:
    mended = f"{TRAINS}# looked at\n"

    def script(request: Asked) -> Reply:
        facts = facts_in(request)
        said = playbook_says(request)
        if facts["move"] == "draft":
            plans = [{**plan, "script": TRAINS} for plan in said.content["plans"]]
            return Says({**said.content, "plans": plans})
        if facts["move"] == "improve" and not any(each["role"] == "tool" for each in request.messages):
            return Says("", calls=(("read_log", {"experiment": "e1"}),))
        return said

    shown: list[Request] = []

    def decide(requests: Sequence[Request]) -> Any:
        asked = [request for request in requests if request["purpose"] == "training"]
        edits = {each["digest"]: {"edit": {"files": {WRITTEN: mended}}} for each in asked if not shown}
        shown.extend(asked)
        return {**{each["digest"]: {"approved": True} for each in requests}, **edits}  # type: ignore[return-value]

    path = make_goal(approve="paid", experiments=2)
    with openai_chat(script) as server:
        path.write_text(f'{path.read_text()}[brain]\ntrainer = "openai/a-model"\napi_base = "{server.base_url}"\n')
        summary = postgrad.run(path, decide=decide)
        told = [m["content"] for request in server.requests for m in request.messages if m["role"] == "tool"]

    assert summary["status"] == "succeeded", summary["error"]
    assert [(each["experiment"], each["script_text"] == mended) for each in shown] == [
        ("e1", False), ("e1", True), ("e2", True),
    ]  # fmt: skip
    assert '"loss": 1.5' in told[0], "the log of e1"
    ablated = postgrad.ablate(summary["run_id"], components=["learning_rate"], approve="auto")
    assert ablated["status"] == "succeeded", ablated
    (spec,) = trainings_of(settings, ablated["run_id"])
    assert (spec.script, spec.sandbox, spec.custom) == (WRITTEN, "auto", True)
    assert settings.run_paths(ablated["run_id"]).stored(spec.files[WRITTEN]).read_text() == mended


def trainings_of(settings: Settings, run_id: str) -> list[JobSpec]:
    pinned = Journal(Database.open(settings.database), run_id).notes("pinned").values()
    return [spec for note in pinned if (spec := JobSpec.model_validate(note["spec"])).purpose is Purpose.TRAINING]


@pytest.mark.slow
@isolated
def test_a_generator_of_the_models_own_writes_the_rows_and_one_that_crashes_may_be_mended(
    make_goal: MakeGoal, settings: Settings
) -> None:
    programs = iter(["import json\nraise SystemExit('no such luck')\n", WRITES])

    def script(request: Asked) -> Reply:
        said = playbook_says(request)
        if facts_in(request)["move"] == "data" and not facts_in(request)["generated"]:
            writing = {**said.content["generate"], "teacher": "", "program": next(programs), "verify": "computed"}
            return Says({**said.content, "generate": writing})
        return said

    asked: list[Request] = []
    with openai_chat(script) as server:
        summary = run(make_goal(approve="paid", generator="", experiments=1), server.base_url, asked)
        told = [words_in(request)["findings"] for request in server.requests if facts_in(request)["move"] == "data"]

    assert summary["status"] == "succeeded", summary["error"]
    assert [request["script"] for request in asked] == [WRITTEN, WRITTEN], "each is asked about, though it is free"
    assert "no such luck" in told[1]["program-1"]["claim"]
    assert (Path(summary["report"])).is_file()


@pytest.mark.parametrize(
    ("changes", "script", "told"),
    [
        ({}, "def train(:", "no Python"),
        ({}, "# nothing", "nothing in it"),
        ({}, '"""Trains."""\npass', "nothing in it"),
        ({}, "model = 1 is 1\nreturn model", "'return' outside function, line 2"),
        ({"on": "slurm"}, TRAINS, "runs in a sandbox of this machine"),
        ({"on": "hf"}, TRAINS, "runs in a sandbox of this machine"),
        ({"script": "/mine/train.py"}, TRAINS, "the goal names the training script"),
    ],
)
def test_a_program_that_cannot_be_run_is_sent_back_with_the_reason(
    changes: dict[str, str], script: str, told: str
) -> None:
    goal = GOAL.model_copy(update={"run": GOAL.run.model_copy(update=changes)})
    plan = Plan(parent="e1", change="", why="", recipe=E1.recipe, script=script)
    assert told in trainer.fault(TrainingProposal(plans=(plan,)), brief(Move.IMPROVE, goal=goal))


@pytest.mark.usefixtures("no_bubblewrap")
def test_where_there_is_no_sandbox_a_program_of_a_model_is_refused() -> None:
    plan = Plan(parent="e1", change="", why="", recipe=E1.recipe, script=TRAINS)
    assert "there is no sandbox" in trainer.fault(TrainingProposal(plans=(plan,)), brief(Move.IMPROVE))
