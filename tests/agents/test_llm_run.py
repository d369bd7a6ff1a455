"""A whole run that a language model drives, over HTTP, with jobs that take no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import postgrad
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.journal import Journal
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.servers.openai_chat import WRONG_KEY, Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says, words_in

pytestmark = pytest.mark.usefixtures("noop_jobs")

KEY = "sk-canary-1234567890abcdefghij"


@pytest.fixture(autouse=True)
def _small_recipe(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def run(path: Path, base_url: str, model: str = "openai/gpt-4o", usd: float = 5) -> dict[str, Any]:
    goal = path.read_text() + f'[brain]\ndefault = "{model}"\napi_base = "{base_url}"\n'
    path.write_text(goal.replace("usd = 0", f"usd = {usd}"))
    return postgrad.run(path)


def test_a_language_model_drives_a_run_to_its_end(make_goal: MakeGoal, settings: Settings) -> None:
    with openai_chat(playbook_says) as server:
        summary = run(make_goal(), server.base_url)

    assert summary["status"] == "succeeded", summary
    assert summary["outcome"] == "improved"
    moves = [facts_in(request)["move"] for request in server.requests]
    assert {"baseline", "research", "data", "draft", "candidate", "improve", "deliver", "confirm"} <= set(moves)
    assert summary["spent"]["llm_tokens"] == 120 * len(moves)
    assert summary["spent"]["usd"] == pytest.approx(450e-6 * len(moves))
    improve = next(request for request in server.requests if facts_in(request)["move"] == "improve")
    shown = words_in(improve)["categories"]
    assert {"e1/physics/selection", "baseline/physics/selection"} <= shown.keys()
    assert all(shown.values()), "the scores by category, which the state leaves to the journal"
    written = b"".join(file.read_bytes() for file in settings.home.rglob("*") if file.is_file())
    assert KEY.encode() not in written


def test_a_run_stopped_by_a_wrong_key_goes_on_where_it_stopped(make_goal: MakeGoal, settings: Settings) -> None:
    refused = False

    def script(request: Request) -> Reply:
        return WRONG_KEY if refused and facts_in(request)["move"] == "draft" else playbook_says(request)

    with openai_chat(script) as server:
        refused = True
        stopped = run(make_goal(experiments=1), server.base_url)
        assert stopped["status"] == "failed"
        assert "refuses the key; set OPENAI_API_KEY" in stopped["error"]
        asked = len(server.requests)

        refused = False
        resumed = postgrad.resume(stopped["run_id"])
    assert resumed["status"] == "succeeded"
    moves = [facts_in(request)["move"] for request in server.requests[asked:]]
    assert moves[0] == "draft", "what was answered is not asked again"


def test_a_stand_in_of_the_playbook_and_an_unknown_price_are_seen_in_the_events(
    make_goal: MakeGoal, settings: Settings
) -> None:
    def script(request: Request) -> Reply:
        return Says("I'd rather not") if facts_in(request)["move"] == "research" else playbook_says(request)

    with openai_chat(script) as server:
        summary = run(make_goal(experiments=1), server.base_url, model="openai/a-model", usd=0)

    assert summary["status"] == "succeeded"
    events = [json.loads(line) for line in settings.run_paths(summary["run_id"]).events.read_text().splitlines()]
    assert any("stands in for the researcher's model" in event.get("text", "") for event in events)
    assert sum("the price of `openai/a-model` is unknown" in event.get("text", "") for event in events) == 1
    by = {event["role"]: event["by"] for event in events if event["kind"] == "proposal"}
    assert by["researcher"] == "playbook, standing in for openai/a-model"
    assert by["trainer"] == "openai/a-model"
    notes = Journal(Database.open(settings.database), summary["run_id"]).notes("stand_in")
    assert [note["role"] for note in notes.values()] == ["researcher"]


def test_a_mind_of_no_known_provider_is_refused_before_anything_runs(make_goal: MakeGoal) -> None:
    with pytest.raises(BadInput, match=r"\[brain\]: `nonsense/x` begins with no provider that LiteLLM knows"):
        postgrad.run(make_goal(), brain="nonsense/x")
