"""The trace of a run: rendered, summed by role, shown while a model speaks, and published in private."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import postgrad
from postgrad.cli import app
from postgrad.console import Console
from postgrad.live import Live
from postgrad.units import dollars_known
from shared_memory.errors import BadInput
from shared_memory.ledger import Ledger
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.a_run import SECRET, ARun, finished_run, new_run
from tests.postgrad.test_console import live, plain
from tests.servers.hub import TOKEN, hub, point_client_at
from tests.servers.openai_chat import Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says

command = CliRunner()
TURN = {
    "kind": "turn", "role": "researcher", "model": "openai/gpt-x", "request": "a" * 32, "tokens": 1234, "usd": 0.002,
    "seconds": 2.0, "kept": False, "text": "", "calls": ["search_papers"],
}  # fmt: skip
TOOL = {
    "kind": "tool", "role": "researcher", "name": "search_papers", "arguments": "{'query': 'GRPO'}", "handle": "h1",
    "characters": 9000, "seconds": 1.0, "error": "", "kept": False,
}  # fmt: skip


def with_events(run: ARun, *events: dict[str, Any]) -> ARun:
    with run.paths.events.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"at": 100.0 + n, **event}) + "\n" for n, event in enumerate(events))
    return run


def test_turns_tools_moves_and_steers_are_short_lines_on_the_console() -> None:
    assert plain(
        TURN,
        {**TURN, "calls": [], "usd": None, "text": "x " * 200 + "the end"},
        {**TURN, "kept": True},
        TOOL,
        {**TOOL, "error": "no such paper"},
        {"kind": "words", "role": "trainer", "text": "half a sent"},
        {"kind": "move", "move": "draft", "role": "trainer", "by": "playbook", "why": "", "text": "plan"},
        {"kind": "move", "move": "ablate", "role": "trainer", "by": "m", "why": "to learn", "text": "leave out"},
        {"kind": "move", "move": "stop", "role": "", "by": "person", "why": "please stop", "text": "write the report"},
        {"kind": "steer", "words": "prefer dpo", "followed": True, "text": "no recipe of this run is `dpo`"},
    ) == [
        "researcher · openai/gpt-x · 1,234 tokens · $0.002 · calls search_papers",
        "researcher · openai/gpt-x · 1,234 tokens · price unknown · says: … " + "x " * 76 + "the end",
        "researcher · search_papers · failed: no such paper · 1 s",
        "▸ trainer: plan",
        "▸ trainer: leave out  (chosen by m: to learn)",
        "▸ write the report  (as you asked: please stop)",
        "“prefer dpo”: no recipe of this run is `dpo`",
    ]


def test_what_a_model_is_saying_stands_in_the_live_area_until_it_is_said() -> None:
    words = {"kind": "words", "role": "trainer", "model": "m", "text": "I look at the log", "at": 5.0}
    assert "trainer: I look at the log" in live(words)
    assert "I look at" not in live({**words, "at": 1.0}, {**TURN, "at": 2.0, "text": "done"}).split("\n")[-2]
    assert "I look at" not in live({**TURN, "at": 9.0}, words), "what was written before the turn is old"


def test_an_unknown_price_is_never_nothing() -> None:
    assert dollars_known(0.0, ["m"]) == "unknown cost"
    assert dollars_known(None, ["m"]) == "unknown cost"
    assert dollars_known(1.5, ["m"]) == "$1.50 and an unknown cost"
    assert dollars_known(1.5, []) == "$1.50"
    assert "unknown cost spent" in live({"kind": "spent", "usd": 0.0, "jobs": 1, "hours": 0.1, "unpriced": ["m"]})


def test_show_trace_tells_what_happened_and_what_each_role_took(home: Path) -> None:
    run = with_events(finished_run(home), TURN, TOOL, {**TURN, "kept": True, "text": SECRET}, {"kind": "progress"})
    shown = command.invoke(app, ["show", run.run_id, "--trace"])
    assert shown.exit_code == 0, shown.output
    for part in (
        "researcher · openai/gpt-x · 1,234 tokens · $0.002 · calls search_papers",
        "researcher · search_papers · 9,000 characters · 1 s",
        "{'query': 'GRPO'}",
        "(from disk)",
        "approved by policy: training of e1",
    ):
        assert part in shown.stdout
    told = json.loads(command.invoke(app, ["show", run.run_id, "--trace", "--json"]).stdout)
    assert SECRET not in json.dumps(told)
    assert {event["kind"] for event in told["events"]} == {"gate", "turn", "tool"}
    took = {"turns": 1, "kept": 1, "calls": 1, "seconds": 5.0, "tokens": 0, "usd": 0.0, "unpriced": []}
    assert told["roles"]["researcher"] == took
    assert told["roles"]["trainer"]["turns"] == 0


def test_a_trace_is_shown_whatever_stands_in_its_file(home: Path) -> None:
    run = with_events(
        finished_run(home),
        {**TURN, "tokens": None, "text": "of a later version"},
        {"kind": "turn", "at": "yesterday", "text": "\x1b[2Jcleared"},
        {**TOOL, "at": 1e30},
        {"kind": "gate", "requests": [{"digest": "d"}]},
        {"kind": "status"},
        {"kind": "a kind of a later version"},
        {"kind": "note", "text": "the last whole line"},
    )
    with run.paths.events.open("a", encoding="utf-8") as stream:
        stream.write('[1, 2]\n{"kind": "note", "text": "cut sh')
    shown = command.invoke(app, ["show", run.run_id, "--trace"])
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert [line[16:] for line in lines if "(not understood)" in line] == [
        "turn (not understood): of a later version", "turn (not understood): cleared", "gate (not understood): ",
        "status (not understood): ",
    ]  # fmt: skip
    assert any(line.startswith("–    researcher · search_papers") for line in lines), "no time that there can be"
    assert any(line.endswith("the last whole line") for line in lines)
    assert "cut sh" not in shown.stdout
    told = json.loads(command.invoke(app, ["show", run.run_id, "--trace", "--json"]).stdout)
    assert told["roles"]["researcher"]["turns"] == 0, "what is not understood is not counted"
    assert told["roles"]["researcher"]["calls"] == 1


def test_a_run_that_has_just_begun_has_nothing_to_show_and_says_so(home: Path) -> None:
    shown = command.invoke(app, ["show", new_run(home).run_id, "--trace"])
    assert (shown.exit_code, shown.stdout.strip()) == (0, "nothing has happened yet")


@pytest.mark.usefixtures("noop_jobs")
def test_a_run_with_a_model_of_unknown_price_says_so_and_its_words_are_in_no_trace(
    make_goal: MakeGoal, recipe: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")
    recipe()

    def script(request: Request) -> Reply:
        if facts_in(request)["move"] == "draft" and len(request.messages) == 2:
            return Says("I look at the script first ", calls=(("read_training_script", {}),))
        return playbook_says(request)

    events: list[postgrad.Event] = []
    with openai_chat(script) as server:
        path = make_goal(experiments=1)
        path.write_text(path.read_text() + f'[brain]\ntrainer = "openai/a-model"\napi_base = "{server.base_url}"\n')
        summary = postgrad.run(path, on_event=events.append)
    assert summary["status"] == "succeeded", summary
    turns = [event for event in events if isinstance(event, postgrad.TurnEvent)]
    assert turns[0].calls == ("read_training_script",)
    assert turns[0].usd is None
    (tool,) = [event for event in events if isinstance(event, postgrad.ToolEvent)]
    assert (tool.role, tool.name) == ("trainer", "read_training_script")
    assert any(isinstance(event, postgrad.WordsEvent) for event in events)
    paths = settings.run_paths(summary["run_id"])
    assert '"words"' not in paths.events.read_text()
    assert Live(paths.live).newest() is not None
    assert not any(isinstance(event, postgrad.OtherEvent) for event in events)

    spent = summary["spent"]
    assert spent["unpriced"] == ["openai/a-model"]
    assert spent["by_role"]["trainer"] is None
    assert spent["roles"]["trainer"]["llm_tokens"] == spent["llm_tokens"] > 0
    stream = io.StringIO()
    Console(stream).show_summary(summary)
    assert "tokens, unknown cost" in stream.getvalue()
    assert re.search(r"spent +unknown cost ·", stream.getvalue())
    assert "unknown cost" in paths.report_md.read_text()
    told = json.loads(command.invoke(app, ["show", "last", "--trace", "--json"]).stdout)
    assert told["roles"]["trainer"]["turns"] == len(turns)
    assert told["roles"]["trainer"]["usd"] is None


def test_a_trace_is_published_in_private_after_a_yes_without_secrets_and_outputs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_events(finished_run(home), TURN, {**TOOL, "arguments": f"{SECRET} /home/anna/notes/a.txt"})
    run.paths.tools.mkdir()
    (run.paths.tools / "h1.json").write_text(json.dumps({"tool": "search_papers", "text": f"a paper {SECRET}"}))
    with hub() as server:
        point_client_at(server, monkeypatch, tmp_path / "hf")
        to = "anna/trace"
        asked = command.invoke(app, ["publish", run.run_id, "--trace", "--to", to], input="n\n")
        assert f"publish the trace of {run.run_id}: {to}, private" in asked.stderr
        assert isinstance(asked.exception, BadInput)
        assert Ledger(run.db, run.run_id).decisions()[-1].reason != "postgrad publish", "nothing was approved"
        told = command.invoke(app, ["publish", run.run_id, "--trace", "--to", to, "--yes", "--json"])
        assert told.exit_code == 0, told.output
        found = json.loads(told.stdout)
        assert found["private"] is True
        assert set(found["files"]) == {"README.md", "trace.jsonl"}
        repo = server.dataset(to)
        assert repo.private
        sent = str(repo.head.files)
        assert "search_papers" in sent
        assert not [gone for gone in (SECRET, "/home/anna", "a paper") if gone in sent]
        again = command.invoke(app, ["publish", run.run_id, "--trace", "--to", to, "--yes", "--json"])
        assert json.loads(again.stdout)["changed"] is False
        assert TOKEN not in told.output
    assert Ledger(run.db, run.run_id).decisions()[-1].reason == "postgrad publish"


def test_a_trace_in_a_folder_holds_the_outputs_of_tools_where_they_are_asked_for(home: Path, tmp_path: Path) -> None:
    run = with_events(finished_run(home), TURN, {**TOOL, "arguments": f"{SECRET} /home/anna/notes/a.txt"})
    run.paths.tools.mkdir()
    (run.paths.tools / "h1.json").write_text(json.dumps({"tool": "search_papers", "text": f"a paper {SECRET}"}))
    folder = tmp_path / "trace"
    told = command.invoke(app, ["publish", run.run_id, "--trace", "--tool-outputs", "--to", str(folder)])
    assert told.exit_code == 0, told.output
    assert {file.name for file in folder.iterdir()} == {"README.md", "trace.jsonl", "output-h1.json"}
    written = "".join(file.read_text() for file in folder.iterdir())
    assert SECRET not in written
    assert "/home/anna" not in written
    assert "a paper [redacted]" in written
    events = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events][-2:] == ["turn", "tool"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--trace", "--public"], "a trace is published in private"),
        (["--trace", "--model"], "give one of them"),
        (["--tool-outputs"], "--tool-outputs goes with --trace"),
    ],
)
def test_what_a_trace_cannot_be_is_one_line(home: Path, flags: list[str], told: str) -> None:
    run = finished_run(home)
    refused = command.invoke(app, ["publish", run.run_id, "--to", "a/b", *flags])
    assert isinstance(refused.exception, BadInput)
    assert told in str(refused.exception)
