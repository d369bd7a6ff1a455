"""What the router may choose among, and who chooses: nothing that a promise rests on is up for choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import postgrad
from agents.brain import Move
from graph import routing
from graph.allowed import allowed_moves
from graph.choosing import MOVES, choose
from graph.context import Context, Desk
from graph.state import RunState
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.records import Branch
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.graph.test_routing import IMPROVED, MISSES, PLATEAU, PLENTY, experiment, recipes, state
from tests.graph.test_search import JOBS_OF, Search
from tests.servers.openai_chat import Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says

KEY = "sk-canary-1234567890abcdefghij"
CRASHED = {"e1": experiment("e1", "crashed")}


def moves(given: RunState) -> list[str]:
    return [f"{choice.move.value} {choice.subject}".strip() for choice in allowed_moves(given)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (state(results={}), ["baseline"]),
        (state(recipes={}), ["research"]),
        (state(datasets={}), ["data"]),
        (state(), ["draft"]),
        (state(limits={"experiments": 0}), ["stop"]),
        (state(experiments={"e1": experiment("e1", "planned")}), ["retry e1"]),
        (state(experiments={"e1": experiment("e1", "trained")}), ["candidate e1"]),
        (state(scores={"e1": 0.95}), ["deliver e1"]),
        (state(scores={"e1": 0.5}, limits={"experiments": 1}), ["deliver e1"]),
        (state(scores={"e1": 0.5}, halt="cancelled"), ["deliver e1"]),
        (state(scores={"e1": 0.5}, delivered="e1", claims={"b": {"experiment": "e1"}}), ["stop"]),
        (state(scores={"e1": 0.5}, exhausted=["stop:"]), ["deliver e1"]),
        (state(experiments=CRASHED, recipes=recipes(2)), ["debug e1", "draft", "stop"]),
        (state(scores={"e1": 0.5}), ["improve e1", "ablate e1", "deliver e1"]),
        (state(scores={"e1": 0.5}, recipes=recipes(3)), ["draft", "improve e1", "ablate e1", "deliver e1"]),
        (state(scores={"e1": 0.1}), ["improve e1", "stop"]),
        (
            state(scores=PLATEAU, experiments=MISSES, exhausted=["ablate:e1"]),
            ["deliver e1", "improve e1"],
        ),
        (
            state(scores={"e1": 0.5, "e2": 0.6}, experiments=IMPROVED, limits={"experiments": 2}),
            ["deliver e2"],
        ),
    ],
)
def test_the_playbooks_choice_stands_first_among_what_the_rules_allow(given: RunState, expected: list[str]) -> None:
    assert moves(given) == expected
    first, playbooks = allowed_moves(given)[0], routing.next_move(given)
    assert (first.move, first.subject) == (playbooks.move, playbooks.subject)


@pytest.mark.parametrize("short", [{"seconds_left": 30.0}, {"jobs_left": 2}])
def test_a_cap_that_cuts_leaves_nothing_to_choose(short: dict[str, Any]) -> None:
    (choice,) = allowed_moves(state(scores={"e1": 0.5}, recipes=recipes(3), stock={**PLENTY, **short}))
    assert choice.move is Move.DELIVER
    assert choice.halt in ("timed_out", "over_budget")


class AnySearch(Search):
    """Plays a run whose every move is drawn among those that are allowed."""

    def play(self) -> None:
        while True:
            self.state["stock"] = {
                "seconds_left": self.seconds, "seconds_kept": 60.0, "jobs_left": self.left, "usd_left_micro": 0,
                "usd_kept_micro": 0, "cancelled": False,
            }  # fmt: skip
            now = RunState(**self.state)  # type: ignore[typeddict-item]
            choice = self.draw(st.sampled_from(allowed_moves(now)))
            more = [routing.exhausted(Move.STOP, "")] if choice.ends else []
            self.state |= {"move": choice.move.value, "subject": choice.subject, "halt": choice.halt or now["halt"]}
            self.state["exhausted"] = [*self.state["exhausted"], *more]
            self.moves.append(choice.move)
            assert len(self.moves) < 500, "the search goes round in circles"
            if choice.move is Move.STOP:
                return
            self.left -= JOBS_OF.get(choice.move, 0)
            getattr(self, f"on_{choice.move.value}", self.on_training)(choice.subject)


@given(st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_whichever_of_the_allowed_moves_is_made_the_promises_hold(data: Any) -> None:
    limits = {"experiments": data.draw(st.integers(0, 10)), "jobs": data.draw(st.integers(1, 40))}
    search = AnySearch(data.draw, limits, data.draw(st.integers(1, 3)), kinds=data.draw(st.integers(1, 4)))
    search.play()

    ended = RunState(**search.state)  # type: ignore[typeddict-item]
    jobs = [move for move in search.moves if move not in (Move.RESEARCH, Move.DELIVER, Move.STOP)]
    assert not jobs or jobs[0] is Move.BASELINE
    assert search.left >= 0
    assert len(search.state["experiments"]) <= limits["experiments"]
    assert not routing.unscored(ended) or search.state["halt"], "what was trained is scored, while there are means"
    assert 3 * sum(e.branch is Branch.ABLATE for e in routing.experiments_of(ended).values()) <= limits["experiments"]
    assert ended.get("delivered", "baseline") == routing.incumbent(ended)
    assert search.moves.count(Move.CONFIRM) <= 1


@pytest.fixture
def _small_recipe(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


Script = Callable[[Request], Reply]


def choosing(choose_it: Callable[[dict[str, Any]], Any]) -> Script:
    """Proposes as the playbook does, and answers the question which move is next by its facts."""

    def script(request: Request) -> Reply:
        facts = facts_in(request)
        return Says(choose_it(facts)) if facts["move"] == "choose" else playbook_says(request)

    return script


def run_with(
    script: Script, path: Path, settings: Settings
) -> tuple[dict[str, Any], list[dict[str, Any]], list[Request]]:
    with openai_chat(script) as server:
        goal = path.read_text() + f'[brain]\ndefault = "openai/gpt-4o"\napi_base = "{server.base_url}"\n'
        path.write_text(goal.replace("usd = 0", "usd = 5"))
        summary = postgrad.run(path)
    lines = settings.run_paths(summary["run_id"]).events.read_text().splitlines()
    asked = [request for request in server.requests if facts_in(request)["move"] == "choose"]
    return summary, [json.loads(line) for line in lines], asked


@pytest.mark.usefixtures("noop_jobs", "_small_recipe")
def test_a_language_model_ends_the_search_early_and_its_best_model_is_delivered_and_measured(
    make_goal: MakeGoal, settings: Settings
) -> None:
    def end(facts: dict[str, Any]) -> dict[str, Any]:
        return {"choice": facts["allowed"][-1]["choice"], "why": "it is good enough"}

    summary, events, asked = run_with(choosing(end), make_goal(experiments=4), settings)

    assert summary["status"] == "succeeded", summary
    assert [entry["id"] for entry in summary["experiments"]] == ["e1"]
    assert summary["champion"]["experiment"] == "e1"
    assert summary["outcome"] == "improved"
    assert len(asked) == 1, "it is asked where there is a choice, and nowhere else"
    assert [entry["move"] for entry in facts_in(asked[0])["allowed"]] == ["improve", "ablate", "deliver"]
    chosen = [event for event in events if event["kind"] == "move" and event["by"] == "openai/gpt-4o"]
    assert [(event["move"], event["why"]) for event in chosen] == [("deliver", "it is good enough")]
    turns = [event["text"] for event in events if event["kind"] == "turn" and event["role"] == "trainer"]
    assert any("it is good enough" in text for text in turns), "the choice is in the trace"
    (note,) = Journal(Desk(summary["run_id"], Context()).db, summary["run_id"]).notes(MOVES).values()
    assert note["among"] == ["improve e1", "ablate e1", "deliver e1"]
    assert note["by"] == "openai/gpt-4o"


@pytest.mark.usefixtures("noop_jobs", "_small_recipe")
def test_where_its_choices_are_of_no_use_the_playbook_stands_in(make_goal: MakeGoal, settings: Settings) -> None:
    summary, events, asked = run_with(choosing(lambda facts: {"choice": 9}), make_goal(experiments=2), settings)

    assert summary["status"] == "succeeded", summary
    assert len(asked) == 2, "a choice that is not on the list is sent back once"
    assert "`choice`" in asked[1].messages[-1]["content"]
    assert any("stands in for the trainer's model" in event.get("text", "") for event in events)
    (chosen,) = [event for event in events if event["kind"] == "move" and "standing in" in event["by"]]
    assert chosen["move"] == "improve"


def test_a_choice_that_is_made_again_after_a_crash_sends_no_request(
    tiny_model: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with openai_chat([Says({"choice": 2, "why": "to learn"})]) as server:
        goal = Goal.model_validate(
            {
                "text": "t", "base_model": str(tiny_model), "benchmark": [{"path": "/b.jsonl"}],
                "brain": {"trainer": "openai/gpt-4o", "api_base": server.base_url},
            }
        )  # fmt: skip
        desk = Desk("20261201-t-0000", Context(home=str(settings.home)))
        desk.register(goal)
        given = state(goal=goal.plain(), scores={"e1": 0.5}, datasets={})
        given["datasets"] = {"d1": {"id": "d1", "source": "s", "path": "p", "digest": "0", "rows": 9}}
        first, again = (choose(given, desk) for _ in range(2))
    assert (first.choice.move, first.by, first.why) == (Move.ABLATE, "openai/gpt-4o", "to learn")
    assert again == first
    assert len(server.requests) == 1
    assert len(desk.journal.notes(MOVES)) == 1
