"""The tools that every role has, and those that people's packages add, in a role's own loop over real HTTP."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from agents.brain import Move, Role, choose_brain
from agents.jobs.base import read_events
from agents.llm import LanguageModel, Tally
from agents.tools.actions import ActionRunner, action_job
from agents.tools.people import People
from agents.tools.shared import SETTLED
from agents.workbench import Workbench
from graph.context import AGENTS, RULES
from postgrad import doctor
from shared_memory.actions import MOST_OPEN, ActionRequest, Actions
from shared_memory.database import Database
from shared_memory.errors import PostgradError, Uncertain
from shared_memory.jobs import JobState
from shared_memory.journal import Journal
from shared_memory.settings import Settings
from tests.agents.briefs import GOAL, brief
from tests.agents.people_tools import install
from tests.servers.openai_chat import ChatServer, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says


def workbench(server: ChatServer, folder: Path, **more: Any) -> Workbench:
    model = LanguageModel("openai/a-model", api_base=server.base_url, cache=folder / "answers", meter=Tally())
    return Workbench(model, outputs=folder / "tools", library=folder / "library", **more)


def answers_to(
    folder: Path, calls: list[tuple[str, dict[str, Any]]], move: Move = Move.IMPROVE, **more: Any
) -> list[str]:
    """What a model that makes these calls, one after the other, is told."""

    def script(request: Request) -> Says:
        made = sum(message["role"] == "tool" for message in request.messages)
        return Says("", calls=(calls[made],)) if made < len(calls) else playbook_says(request)

    with openai_chat(script) as server:
        brain = choose_brain(
            workbench(server, folder, **more),
            RULES,
            AGENTS,
            stand_ins=(),
            on_stand_in=lambda *told: pytest.fail(str(told)),
        )
        role = move.role
        assert role is not None
        brain.propose(role, brief(move, **BRIEF))
    return [message["content"] for message in server.requests[-1].messages if message["role"] == "tool"]


BRIEF: dict[str, Any] = {"done": {"a1": "notebook__write({}) was done; it answered: written"}}


def test_the_team_s_memory_is_looked_up_by_id_and_never_tells_of_the_report_items(tmp_path: Path) -> None:
    asked = ["experiments", "e3", "results", "baseline/physics/selection", "baseline/physics/report", "failures", "a1",
             "toy", "nobody"]  # fmt: skip
    told = dict(zip(asked, answers_to(tmp_path, [("look_up", {"what": what}) for what in asked]), strict=True))
    assert "e2: SFT (of e1)" in told["experiments"]
    assert "loss is nan at step 1" in told["e3"]
    assert "diverged" in told["e3"]
    assert "0.777" not in "".join(told.values())
    assert "report" not in told["results"]
    assert "items.jsonl" not in told["baseline/physics/selection"]
    assert "there is nothing called 'baseline/physics/report' on record" in told["baseline/physics/report"]
    assert "e3: loss is nan at step 1" in told["failures"]
    assert "it answered: written" in told["a1"]
    assert "learning_rate" in told["toy"]
    assert "there is nothing called 'nobody' on record; there are experiments, " in told["nobody"]


def test_a_scratch_program_has_the_facts_numpy_and_the_files_of_the_last_one(tmp_path: Path) -> None:
    first = (
        "import json, numpy, polars\nfacts = json.load(open('facts.json'))\nopen('kept.txt', 'w').write('from before')"
    )
    programs = [
        f"{first}\nprint(facts['move'], numpy.arange(5).sum())",
        "print(open('kept.txt').read())",
        "print('a'); 1 / 0",
        "print('once'); import doctest, pdb",
        "import os; os.remove('program.py'); os.mkdir('program.py')",
        "print('still here')",
    ]
    told = answers_to(tmp_path, [("run_python", {"code": code}) for code in programs])
    assert "improve 10" in told[0]
    assert "files in the folder: kept.txt" in told[0]
    assert "from before" in told[1]
    assert "ZeroDivisionError" in told[2]
    assert "exit code 1" in told[2]
    assert told[3].count("once") == 1, "no module of the library is the program itself"
    assert "still here" in told[5], "whatever the last one did to its own file"
    scratch = tmp_path / "tools" / "scratch"
    (folder,) = scratch.iterdir()
    answers_to(tmp_path, [("run_python", {"code": "print(1)"})], Move.DRAFT)
    assert not folder.exists(), "it lasts for one proposal"
    assert len([*scratch.iterdir()]) == 1


def test_a_scratch_program_sees_no_token_and_no_network_and_ends_at_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_CaNaRyCaNaRyCaNaRyCaNaRy99")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    programs = [
        "import os; print(sorted(os.environ)); print(os.environ.get('HF_TOKEN'))",
        f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 1))",
        f"print(open({str(tmp_path / 'answers')!r}))",
        "print('x' * 10**7)",
    ]
    told = answers_to(tmp_path, [("run_python", {"code": code}) for code in programs])
    assert "HF_TOKEN" not in told[0]
    assert "None" in told[0]
    listener.close()
    assert "<socket" not in told[1]
    assert "Error" in told[1]
    assert "FileNotFoundError" in told[2]
    assert "output" in told[3]
    assert len(told[3]) < 100_000


@pytest.mark.usefixtures("no_bubblewrap")
def test_where_nothing_can_be_kept_apart_no_role_has_a_scratch_interpreter_whatever_a_goal_allows_scripts(
    tmp_path: Path,
) -> None:
    run = GOAL.run.model_copy(update={"sandbox": "none"})
    with openai_chat(playbook_says) as server:
        brain = choose_brain(
            workbench(server, tmp_path), RULES, AGENTS, stand_ins=(), on_stand_in=lambda *told: pytest.fail(str(told))
        )
        brain.propose(Role.TRAINER, brief(Move.IMPROVE, goal=GOAL.model_copy(update={"run": run})))
    offered = {tool["function"]["name"] for tool in server.requests[0].body["tools"]}
    assert "look_up" in offered
    assert "run_python" not in offered


@pytest.mark.parametrize("move", [Move.HOLD_OUT, Move.RESEARCH, Move.DATA, Move.DRAFT, *SETTLED])
def test_every_role_has_the_shared_tools_where_there_is_something_to_find_out(tmp_path: Path, move: Move) -> None:
    with openai_chat(playbook_says) as server:
        brain = choose_brain(
            workbench(server, tmp_path), RULES, AGENTS, stand_ins=(), on_stand_in=lambda *told: pytest.fail(str(told))
        )
        assert move.role is not None
        brain.propose(move.role, brief(move))
    assert len(server.requests) == 1, "they cost no request"
    offered = {tool["function"]["name"] for tool in server.requests[0].body.get("tools", [])}
    assert ({"look_up", "run_python"} <= offered) == (move not in SETTLED)


def asked(tool: str, **more: Any) -> ActionRequest:
    given = {"arguments": {}, "source": "the package tools-of-bob", **more}
    return ActionRequest(id="a1", role="trainer", tool=tool, **given)


@pytest.fixture
def people(settings: Settings) -> tuple[People, Actions, list[str]]:
    faults: list[str] = []
    settings.home.mkdir()
    actions = Actions(Journal(Database.open(settings.database), "r"))
    return People("r", settings, lambda name, find_out: find_out(), faults.append), actions, faults


def test_tools_of_a_package_are_namespaced_and_one_that_reads_is_called_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: tuple[People, Actions, list[str]]
) -> None:
    install(tmp_path / "site", monkeypatch, "tools_of_anna", {"anna": "count", "annas": "post"})
    everyone, actions, faults = people
    tools = everyone.tools(Role.TRAINER, actions)
    calls = [("anna__count", {"text": "four"}), ("annas__post", {"message": "hello"}), ("annas__post", {})]
    told = answers_to(tmp_path, calls, tools=tools)
    assert "4" in told[0]
    assert "asked for as action a1" in told[1]
    assert "annas__post needs `message`" in told[2]
    assert faults == []

    import tools_of_anna  # type: ignore[import-not-found]

    assert tools_of_anna.CALLS == [], "nothing is posted before a person has said yes"
    (request,) = actions.open()
    assert (request.source, request.arguments) == ("the package tools-of-anna", {"message": "hello"})
    with pytest.raises(PostgradError, match="there is no tool `annas__post` of somebody else any more"):
        everyone.call(request.model_copy(update={"source": "somebody else"}))
    assert everyone.call(request) == "posted to everybody"
    assert tools_of_anna.CALLS == [("everybody", "hello")]


def test_a_callable_may_give_the_tools_and_roles_and_errors_and_time_outs_are_each_calls_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: tuple[People, Actions, list[str]]
) -> None:
    install(tmp_path / "site", monkeypatch, "tools_of_bob", {"bob": "grumpy"})
    everyone, actions, _ = people
    assert {tool.name for tool in everyone.tools(Role.TRAINER, actions)} == {"bob__refuse", "bob__nap"}
    assert {tool.name for tool in everyone.tools(Role.RESEARCHER, actions)} == {"bob__nap"}
    told = answers_to(
        tmp_path, [("bob__refuse", {}), ("bob__nap", {"seconds": 0})], tools=everyone.tools("trainer", actions)
    )
    assert "ValueError: not today, not tomorrow" in told[0]
    assert "rested" in told[1]
    with pytest.raises(Uncertain, match=r"nap gave no answer within 0\.1 s, and may go on"):
        everyone.call(asked("bob__nap", arguments={"seconds": 0.5}, seconds=0.1))
    with pytest.raises(PostgradError, match="there is no tool `bob__gone` of the package tools-of-bob any more"):
        everyone.call(asked("bob__gone"))


def test_only_a_tool_that_says_so_has_done_nothing_and_any_other_error_leaves_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: tuple[People, Actions, list[str]]
) -> None:
    install(tmp_path / "site", monkeypatch, "tools_of_bob", {"bob": "grumpy"})
    everyone, _, _ = people
    with pytest.raises(PostgradError, match="ToolException: the door is shut") as said:
        everyone.call(asked("bob__refuse", arguments={"how": "politely"}))
    assert not isinstance(said.value, Uncertain)
    for how, told in {"": "ValueError: not today, not tomorrow", "leave": "SystemExit"}.items():
        with pytest.raises(Uncertain, match=told):
            everyone.call(asked("bob__refuse", arguments={"how": how}))


def test_a_broken_package_is_one_line_here_and_in_doctor_and_the_others_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: tuple[People, Actions, list[str]], settings: Settings
) -> None:
    points = {"good": "count", "none": "NO_TOOL", "gone": "nothing_there"}
    install(tmp_path / "site", monkeypatch, "tools_of_carl", points)
    everyone, actions, faults = people
    assert [tool.name for tool in everyone.tools(Role.TRAINER, actions)] == ["good__count"]
    assert len(faults) == 2
    assert (
        "the tools `none` of tools-of-carl cannot be used (TypeError: it has 7, which is no LangChain tool" in faults[1]
    )
    assert all("\n" not in line for line in faults)
    checks = [check for check in doctor.examine(settings) if check["name"] == "tools"]
    assert [check["status"] for check in checks] == ["ok", "warning", "warning"]
    assert "good__count" in checks[0]["detail"]


def test_only_so_many_actions_wait_and_the_same_one_is_asked_for_once(
    people: tuple[People, Actions, list[str]],
) -> None:
    _, actions, _ = people
    asked: dict[str, Any] = {"role": "trainer", "tool": "t", "source": "s"}
    assert actions.ask(**asked, arguments={"n": 0}) == actions.ask(**asked, arguments={"n": 0})
    for n in range(MOST_OPEN):
        actions.ask(**asked, arguments={"n": n})
    with pytest.raises(PostgradError, match="actions wait for a person already"):
        actions.ask(**asked, arguments={"n": -1})


def test_of_a_long_answer_of_an_action_the_beginning_is_kept(
    tmp_path: Path, people: tuple[People, Actions, list[str]], settings: Settings
) -> None:
    _, actions, _ = people
    request = actions.ask(role="trainer", tool="t", source="s", arguments={})
    runner = ActionRunner(tmp_path / "jobs", lambda request: "wo\U000e0041rd " * 2000)
    folder = tmp_path / "jobs" / "k"
    folder.mkdir(parents=True)
    runner.submit(action_job(request, settings.run_paths("r")), "k", folder)
    assert runner.status("k").state is JobState.SUCCEEDED
    _, result = read_events(runner.logs("k", 0)[0])
    assert result is not None
    assert result["text"] == f"{'word ' * 800} … (10000 characters)"


def test_facts_in_the_scratch_folder_are_those_of_the_prompt(tmp_path: Path) -> None:
    with openai_chat(playbook_says) as server:
        brain = choose_brain(
            workbench(server, tmp_path), RULES, AGENTS, stand_ins=(), on_stand_in=lambda *told: pytest.fail(str(told))
        )
        brain.propose(Role.TRAINER, brief(Move.IMPROVE))
    shown = facts_in(server.requests[0])
    (told,) = answers_to(tmp_path / "again", [("run_python", {"code": "print(open('facts.json').read())"})])
    start = told.index("{")
    assert json.loads(told[start : told.rindex("}") + 1]) == shown
