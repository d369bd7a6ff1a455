"""`postgrad chat`: asked about a run, the team answers from its records; told what to do, the next step takes it up."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import postgrad
from postgrad.cli import app
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.journal import Journal
from shared_memory.lease import Lease
from shared_memory.records import Experiment, Part, Verdict
from shared_memory.runs import Runs, RunStatus
from shared_memory.settings import Settings
from shared_memory.steering import CHAT, STEERED
from tests.conftest import MakeGoal
from tests.postgrad.a_run import SECRET, ARun, baseline, finished_run, new_run
from tests.servers.openai_chat import Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says, words_in

KEY = "sk-canary-1234567890abcdefghij"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def a_search(home: Path, goal: dict[str, Any] | None = None) -> ARun:
    """A run that goes on: e1 was kept, e2 discarded, e3 crashed; nothing is claimed yet."""
    run = baseline(new_run(home, goal=goal))
    recipe = run.prepare()
    run.train("e1", "baseline", recipe, Verdict.KEEP, "LoRA r16, lr 1e-3", loss=1.6)
    run.score("e1", Part.SELECTION, 0.6, 0.97, n=100)
    run.train("e2", "e1", recipe, Verdict.DISCARD, "e1 with lr 1e-3 → 2e-3", loss=1.5)
    run.score("e2", Part.SELECTION, 0.4, 0.9, n=100)
    run.score("baseline", Part.REPORT, 0.123, 0.03)
    crashed = Experiment(
        id="e3", parent="e1", change="e1 with lr 10", recipe=recipe, dataset="d1", status="crashed",
        verdict=Verdict.CRASH, error="the loss is nan at step 3",
    )  # fmt: skip
    run.journal.put(crashed)
    return run


def ask(run: ARun, text: str) -> dict[str, Any]:
    return postgrad.chat(run.run_id, text)


@pytest.mark.parametrize(
    ("question", "parts", "cites"),
    [
        (
            "why was e2 discarded?",
            ["e1 with lr 1e-3 → 2e-3", "It was discarded: it scores", "no better than e1"],
            ["e2"],
        ),
        ("Why did e3 fail?", ["It crashed: the loss is nan at step 3"], ["e3"]),
        ("what went wrong", ["the loss is nan at step 3"], ["e3"]),
        ("how much have we spent?", ["Spent: $0.00 of $0.00", "By role:", "trainer: 2 jobs"], []),
        ("what is the best so far?", ["The best on the selection items is e1: baseline 1.0"], ["baseline", "e1", "e2"]),
        ("tell me about lora-small", ["at a high learning rate", "Tried by e1, e2, e3"], ["lora-small"]),
        ("which data?", ["462 rows for sft", "decontaminate 470 → 462"], ["d1"]),
        ("is there a win to claim?", ["No claim has been made"], []),
        ("why e9?", ["There is no experiment e9 in this run"], []),
        ("hm", ["No language model is set", "Ask about an id (e1, e2, e3)"], []),
    ],
)
def test_without_a_model_ids_and_plain_words_are_answered_from_the_records(
    home: Path, question: str, parts: list[str], cites: list[str]
) -> None:
    told = ask(a_search(home), question)
    assert [part for part in parts if part not in told["answer"]] == [], told["answer"]
    assert told["cites"] == cites
    assert (told["by"], told["steer"], told["effect"]) == ("rules", None, "")
    assert "12.3" not in told["answer"], "the report items are nobody's business before the claim"


def test_what_was_said_is_in_the_journal_without_secrets(home: Path) -> None:
    run = a_search(home)
    ask(run, f"why was e2 discarded, {SECRET}?")
    told = ask(run, "prefer lora-small next")
    first, second = run.journal.notes(CHAT).values()
    assert SECRET not in json.dumps(first)
    assert first["steer"] is None
    assert second["steer"]["prefer"] == [{"about": "recipe", "name": "lora-small"}]
    assert {"question", "answer", "cites", "steer", "by", "at"} <= second.keys()
    assert "it is taken up at the run's next step" in told["effect"]


def test_words_that_name_nothing_are_kept_and_it_is_said_who_can_follow_them(home: Path) -> None:
    told = ask(a_search(home), "do not try higher learning rates")
    assert "the playbook cannot act on them" in told["answer"]
    assert "no role has a language model" in told["answer"]
    assert told["effect"] == "it is on record, and changes nothing"
    assert told["steer"] == {"words": "do not try higher learning rates", "stop": False, "prefer": [], "avoid": []}


def test_to_stop_comes_before_what_is_preferred_in_the_same_breath_and_it_is_said(home: Path) -> None:
    run = a_search(home)
    said = ask(run, "try lora-small, then stop")["answer"]
    assert said.startswith("Understood: end the search after what has been begun, deliver and measure the best model.")
    assert "is not tried first" in said
    assert ask(run, "stop after e2")["answer"].startswith("Understood: end the search"), "an id hides no wish"
    both = ask(run, "why was e2 discarded? Try lora-small next.")["answer"]
    assert both.startswith("Understood: prefer the recipe lora-small. e2 (draft of e1)")


def test_a_run_that_has_ended_only_answers(home: Path) -> None:
    run = finished_run(home)
    told = ask(run, "stop after this experiment")
    assert told["effect"] == "the run has ended (succeeded): nothing is steered any more"
    assert told["steer"] is None
    assert "Improved:" in ask(run, "is there a win to claim?")["answer"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("cancel the run", "`postgrad cancel "),
        ("Please approve everything", "`postgrad approve "),
        ("raise the budget to $1000", "the caps of this run ($0.00, 1 h, 40 jobs)"),
    ],
)
def test_what_no_chat_can_do_is_said_with_what_does(home: Path, words: str, told: str) -> None:
    run = a_search(home)
    said = ask(run, words)
    assert told in said["answer"]
    assert (said["steer"], said["effect"]) == (None, "")
    assert not read_steers(run)


def read_steers(run: ARun) -> list[dict[str, Any]]:
    return [note["steer"] for note in run.journal.notes(CHAT).values() if note["steer"]]


@pytest.mark.parametrize("kind", ["reproduction", "ablation"])
def test_a_run_that_follows_a_plan_says_in_one_line_that_it_cannot_be_steered(home: Path, kind: str) -> None:
    run = a_search(home)
    run.journal.note(kind, kind, {"of": "20261120-other-0000", "champion": "e1", "reference": "e1"})
    told = ask(run, "stop after this experiment")
    line = "this run does what its plan says, step by step: it cannot be steered"
    assert (told["answer"], told["effect"]) == (f"Nothing is steered here: {line}.", line)
    assert not read_steers(run)
    assert "It was discarded" in ask(run, "why was e2 discarded?")["answer"]


def test_where_nobody_drives_the_run_the_person_is_told_how_it_goes_on(home: Path) -> None:
    run = a_search(home)
    resume = f"nobody drives it now: `postgrad resume {run.run_id}`"
    assert resume in ask(run, "prefer lora-small next")["effect"]
    assert ask(run, "what is next?")["answer"].startswith("Nobody drives the run now")
    with held(run):
        assert "once it goes on" not in ask(run, "prefer lora-small next")["effect"]
        assert ask(run, "what is next?")["answer"].startswith("The run is running.")
    run.ended(RunStatus.FAILED)
    assert f"(it has failed: `postgrad resume {run.run_id}`)" in ask(run, "prefer lora-small next")["effect"]
    Runs(run.db).request_cancel(run.run_id)
    assert ask(run, "prefer lora-small next")["effect"].startswith("the run is being cancelled")


def held(run: ARun) -> AbstractContextManager[None]:
    lease = Lease.acquire(run.db, run.run_id)
    assert lease is not None
    return lease.held()


def test_what_a_terminal_sends_beside_words_does_not_get_in_the_way(home: Path) -> None:
    run = a_search(home)
    for words in ("why was \x1b[31me2\x1b[0m discarded?", "why \udcff e2?", "why\r\n\te2?\x00\u202e"):
        assert ask(run, words)["cites"] == ["e2"], words
    kept = [note["question"] for note in run.journal.notes(CHAT).values()]
    assert kept == ["why was e2 discarded?", "why ? e2?", "why e2?"]


def with_mind(server_url: str) -> dict[str, Any]:
    return {"brain": {"default": "openai/gpt-4o", "api_base": server_url}, "limits": {"usd": 5.0, "hours": 1.0}}


def test_a_model_answers_from_the_records_and_is_paid_for_by_the_run(home: Path) -> None:
    reply = {"answer": "e2 scored below e1.", "cites": ["e2", "e1"], "steer": None}
    with openai_chat([Says(reply)]) as server:
        run = a_search(home, with_mind(server.base_url))
        told = ask(run, "why was e2 discarded?")
    assert (told["answer"], told["cites"], told["by"]) == ("e2 scored below e1.", ["e2", "e1"], "openai/gpt-4o")
    (request,) = server.requests
    assert "why was e2 discarded?" in request.messages[1]["content"]
    assert facts_in(request)["scores"]["e2"]["score"] == pytest.approx(0.4, abs=0.15)
    assert words_in(request)["experiments"]["e3"]["error"] == "the loss is nan at step 3"
    assert "0.123" not in request.raw, "no score on the report items before the claim"
    assert '"report"' not in json.dumps(facts_in(request)["baseline"])
    trace = json.loads(CliRunner().invoke(app, ["show", run.run_id, "--trace", "--json"]).stdout)
    (turn,) = [event for event in trace["events"] if event["kind"] == "turn"]
    assert (turn["role"], turn["model"], turn["tokens"], turn["kept"]) == ("team", "openai/gpt-4o", 120, False)
    assert trace["events"][-1] == turn, "in its place by time"
    assert trace["roles"]["team"]["turns"] == 1
    spent = postgrad.show(run.run_id)["spent"]
    assert spent["roles"]["team"]["llm_tokens"] == 120
    assert spent["by_role"]["team"] == pytest.approx(450e-6)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"answer": "It is e7.", "cites": [], "steer": None}, "`e7` is no id of this run"),
        ({"answer": "So.", "cites": ["paper-9"], "steer": None}, "`paper-9` is no id of this run"),
        (
            {"answer": "I stop.", "cites": [], "steer": {"stop": True, "prefer": [], "avoid": []}},
            "the person does not ask to stop",
        ),
        (
            {
                "answer": "Yes.",
                "cites": [],
                "steer": {"stop": False, "prefer": [{"about": "method", "name": "grpo"}], "avoid": []},
            },
            "the person does not name the method `grpo`",
        ),
    ],
)
def test_ids_that_do_not_exist_and_wishes_that_nobody_has_are_refused(
    home: Path, wrong: dict[str, Any], reason: str
) -> None:
    with openai_chat([Says(wrong), Says({"answer": "I cannot say.", "cites": [], "steer": None})]) as server:
        told = ask(a_search(home, with_mind(server.base_url)), "what now?")
    assert reason in server.requests[1].messages[-1]["content"]
    assert told["answer"] == "I cannot say."
    assert told["steer"] is None


def test_a_model_is_told_where_nothing_is_steered_and_its_steer_is_not_kept(home: Path) -> None:
    reply = {"answer": "I stop.", "cites": [], "steer": {"stop": True, "prefer": [], "avoid": []}}
    with openai_chat([Says(reply)]) as server:
        run = a_search(home, with_mind(server.base_url))
        run.journal.note("reproduction", "reproduction", {"of": "20261120-other-0000"})
        told = ask(run, "stop after this experiment")
    assert "it cannot be steered" in facts_in(server.requests[0])["steering"]
    assert told["steer"] is None
    assert "it cannot be steered" in told["effect"]


def test_words_that_name_nothing_are_shown_to_the_models_of_the_roles_that_have_one(home: Path) -> None:
    reply = {"answer": "Noted.", "cites": [], "steer": {"stop": False, "prefer": [], "avoid": []}}
    with openai_chat([Says(reply)]) as server:
        mind = with_mind(server.base_url)
        mind["brain"] = {**mind["brain"], "default": "", "trainer": "openai/gpt-4o"}
        told = ask(a_search(home, mind), "keep the batch small")
    assert told["effect"].startswith("your words are shown to the models of trainer from their next turn on")


def test_where_the_model_cannot_answer_the_rules_do_and_say_so(home: Path) -> None:
    with openai_chat([Says("I'd rather not")]) as server:
        told = ask(a_search(home, with_mind(server.base_url)), "why was e2 discarded?")
    assert told["by"] == "rules"
    assert "no better than e1" in told["answer"]
    assert "`openai/gpt-4o` has not answered" in told["note"]


@pytest.mark.usefixtures("noop_jobs")
def test_a_run_that_is_told_to_stop_ends_its_search_after_what_it_has_begun(
    make_goal: MakeGoal, recipe: Any, settings: Settings
) -> None:
    recipe()
    said: list[dict[str, Any]] = []

    def decide(requests: list[postgrad.Request]) -> bool:
        if requests[0]["purpose"] == "training" and not said:
            said.append(postgrad.chat("last", "stop after this experiment"))
        return True

    events: list[postgrad.Event] = []
    summary = postgrad.run(make_goal(approve="ask", experiments=4), decide=decide, on_event=events.append)
    assert "jobs that run or wait for approval stay as they are" in said[0]["effect"]
    assert summary["status"] == "succeeded", summary
    assert [entry["id"] for entry in summary["experiments"]] == ["e1"]
    assert summary["outcome"] == "improved"
    chosen = [event for event in events if isinstance(event, postgrad.MoveEvent) and event.by == "person"]
    assert [(event.move, event.why) for event in chosen] == [("deliver", "stop after this experiment")]
    (taken,) = [event for event in events if isinstance(event, postgrad.SteerEvent)]
    assert (taken.words, taken.followed) == ("stop after this experiment", True)
    journal = Journal(Database.open(settings.database), summary["run_id"])
    assert [note["text"] for note in journal.notes(STEERED).values()] == ["the search ends here"]
    asked = postgrad.chat("last", "what have I asked for?")
    assert asked["answer"].startswith("“stop after this experiment”: the search ends here")


@pytest.mark.usefixtures("noop_jobs")
def test_a_persons_words_reach_the_roles_as_wishes(make_goal: MakeGoal, recipe: Any, settings: Settings) -> None:
    recipe()
    wishes: dict[str, list[str]] = {}

    def script(request: Request) -> Reply:
        if "The person says:" in request.said:
            return Says("I am no team")
        facts = facts_in(request)
        wishes[facts["move"]] = facts.get("wishes", [])
        return playbook_says(request)

    def on_event(event: postgrad.Event) -> None:
        if isinstance(event, postgrad.MoveEvent) and event.move in ("data", "candidate"):
            postgrad.chat("last", "do not try higher learning rates" if event.move == "data" else "why e1?")

    with openai_chat(script) as server:
        path = make_goal(experiments=2)
        goal = path.read_text() + f'[brain]\ntrainer = "openai/gpt-4o"\napi_base = "{server.base_url}"\n'
        path.write_text(goal.replace("usd = 0", "usd = 5"))
        summary = postgrad.run(path, on_event=on_event)
    assert summary["status"] == "succeeded", summary
    assert wishes["draft"] == wishes["choose"] == wishes["improve"] == ["do not try higher learning rates"]


def test_the_command_answers_one_question_or_a_prompt_until_its_end(home: Path) -> None:
    run = a_search(home)
    told = CliRunner().invoke(app, ["chat", run.run_id, "why was e2 discarded?", "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["cites"] == ["e2"]
    several = CliRunner().invoke(app, ["chat", "last"], input="why did e3 fail?\n\nstop\n")
    assert several.exit_code == 0, several.output
    assert "the loss is nan at step 3" in several.stdout
    assert "Understood: end the search" in several.stdout
    assert len(run.journal.notes(CHAT)) == 3


def test_what_cannot_be_asked_is_one_line(home: Path) -> None:
    run = a_search(home).ended(RunStatus.FAILED)
    with pytest.raises(BadInput, match="nothing was said"):
        ask(run, " \n")
    with pytest.raises(BadInput, match="there is no run"):
        postgrad.chat("gone", "why?")
    refused = CliRunner().invoke(app, ["chat", run.run_id, "--json"])
    assert isinstance(refused.exception, BadInput)
