"""Where a model cannot be used, the next one is asked: with its own provider, key, price and booking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from agents.brain import Role
from agents.llm import LanguageModel, Tally
from agents.provider import Answer, ToolsRefused
from graph.context import Context, Desk
from shared_memory.errors import BudgetSpent, ContextExhausted, TimeOver, Unavailable
from shared_memory.goal import BrainGoal, Goal
from shared_memory.records import Record
from tests.agents.chat_models import LOOK, Models
from tests.servers.openai_chat import (
    NO_QUOTA,
    NO_TOOLS,
    OVERLOADED,
    TOO_LONG,
    WRONG_KEY,
    HangUp,
    Reply,
    Says,
    nobody,
    openai_chat,
)

OTHER = "hosted_vllm/other"
ASKED = [{"role": "user", "content": "which number?"}]


class Number(Record):
    number: int


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")
    monkeypatch.setenv("HOSTED_VLLM_API_KEY", "the-key-of-the-other-1")


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.provider.time.sleep", lambda seconds: None)


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "answers")


def turn(model: LanguageModel, text: str = "hello", **asked: Any) -> str:
    return str(model.reply([HumanMessage(text)], asked).content)


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize(
    ("fault", "sent", "told"),
    [(NO_QUOTA, 1, "no quota"), (WRONG_KEY, 1, "the key"), (OVERLOADED, 3, "out of reach"), (HangUp(), 3, "of reach")],
    ids=["no quota", "wrong key", "overloaded", "hang-up"],
)
def test_the_next_model_is_asked_where_the_first_cannot_be_used(
    models: Models, monkeypatch: pytest.MonkeyPatch, fault: Reply, sent: int, told: str
) -> None:
    fallen: list[tuple[str, str]] = []
    with openai_chat([fault]) as first, openai_chat([Says({"number": 7})]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        model = models(first, fallbacks=(OTHER,), on_fallback=lambda name, reason: fallen.append((name, reason)))
        assert model.ask(Number, ASKED) == Number(number=7)
        assert turn(model) == '{"number": 7}'
    assert len(first.requests) == sent, "it rests then"
    assert [request.body["model"] for request in second.requests] == ["other", "other"]
    assert second.requests[0].headers["authorization"] == "Bearer the-key-of-the-other-1"
    ((name, reason),) = fallen
    assert name == OTHER
    assert told in reason


def test_a_replay_finds_the_answer_of_another_model_and_sends_nothing(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openai_chat([WRONG_KEY]) as first, openai_chat([Says("from the other")]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        said = turn(models(first, fallbacks=(OTHER,)))
        again = turn(models(first, fallbacks=(OTHER,)))
        without = turn(models(first))
        sent = len(first.requests) + len(second.requests)
    assert said == again == without == "from the other"
    assert sent == 2
    (file,) = models.folder.glob("*.json")
    assert Answer.model_validate_json(file.read_text()).model == OTHER


class Named(Tally):
    """Notes what is booked."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []
        self.settled: list[str] = []

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        self.keys.append(key)
        return True

    def settle(self, key: str, tokens: int, usd_micro: int | None) -> None:
        super().settle(key, tokens, usd_micro)
        self.settled.append(key)

    def release(self, key: str) -> None:
        self.keys.remove(key)


def test_each_model_is_booked_with_its_own_meter_and_price(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    meters = {"openai/gpt-4o": Named(), "openai/gpt-4o-mini": Named()}
    with openai_chat([NO_QUOTA]) as first, openai_chat([Says("cheap")]) as second:
        monkeypatch.setenv("OPENAI_API_BASE", second.base_url)
        for _ in range(2):
            turn(models(first, meter=meters["openai/gpt-4o"], meter_of=meters.get, fallbacks=["openai/gpt-4o-mini"]))
    asked, answered = meters.values()
    assert (asked.keys, asked.settled, asked.tokens) == ([], [], 0)
    assert answered.keys == [answered.settled[0]]
    assert answered.settled[0].endswith(":openai/gpt-4o-mini")
    assert answered.settled[0] == answered.settled[1], "a replay is booked under the same key"
    assert answered.usd_micro == 2 * 27, "100 tokens at $0.15 and 20 at $0.60 for a million"


@pytest.mark.usefixtures("no_wait")
def test_a_request_that_was_lost_stays_booked_beside_the_answer_of_the_next_model(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Named()
    with openai_chat([HangUp()]) as first, openai_chat([Says("here")]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        turn(models(first, meter=meter, fallbacks=(OTHER,)))
    assert len(meter.keys) == 4
    assert len(set(meter.keys)) == 4


@pytest.mark.usefixtures("no_wait")
def test_where_no_model_can_be_used_the_first_one_says_why(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTED_VLLM_API_BASE", nobody())
    with openai_chat([NO_QUOTA]) as first, pytest.raises(Unavailable, match=r"gpt-4o.* has no quota left"):
        turn(models(first, fallbacks=(OTHER,)))


def test_an_overflow_and_a_spent_budget_are_no_matter_for_another_model(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spent(Tally):
        def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
            raise BudgetSpent("limits.usd is spent")

    def over() -> None:
        raise TimeOver("limits.hours is used up")

    with openai_chat([TOO_LONG["openai"]]) as first, openai_chat([Says("here")]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        with pytest.raises(ContextExhausted):
            turn(models(first, fallbacks=(OTHER,)))
        with pytest.raises(BudgetSpent):
            turn(models(first, fallbacks=(OTHER,), meter=Spent()))
        with pytest.raises(TimeOver):
            turn(models(first, fallbacks=(OTHER,), heed=over))
    assert second.requests == []


def test_a_model_without_tools_is_no_reason_to_ask_another(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    with openai_chat([NO_TOOLS["ollama"]]) as first, openai_chat([Says("here")]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        with pytest.raises(ToolsRefused):
            turn(models(first, fallbacks=(OTHER,)), tools=[LOOK])
    assert second.requests == []


def test_a_role_falls_back_as_its_goal_says_and_who_is_shown_rows_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openai_chat([NO_QUOTA]) as first, openai_chat([Says("here")]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        goal = Goal(text="a goal", brain=BrainGoal(api_base=first.base_url, fallbacks=(OTHER,)))
        desk = Desk("r-1", Context(str(tmp_path)))
        with pytest.raises(Unavailable, match="no quota"):
            turn(desk.language_model(goal, Role.DATA_ENGINEER, "openai/gpt-4o", alone=True))
        assert second.requests == []
        assert turn(desk.language_model(goal, Role.DATA_ENGINEER, "openai/gpt-4o")) == "here"
    assert desk.budget(goal).spent().llm_tokens == 120


def test_a_model_that_stands_in_and_reads_less_is_passed_over(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    fallen: list[str] = []
    with (
        openai_chat([NO_QUOTA]) as first,
        openai_chat([TOO_LONG["vllm"]]) as second,
        openai_chat([Says("here")]) as third,
    ):
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        monkeypatch.setenv("LM_STUDIO_API_BASE", third.base_url)
        model = models(
            first, fallbacks=(OTHER, "lm_studio/third"), on_fallback=lambda name, reason: fallen.append(name)
        )
        assert [turn(model, text) for text in ("hello", "again")] == ["here", "here"]
    assert fallen == [OTHER, "lm_studio/third", "lm_studio/third"]
    assert len(first.requests) == 1
    assert len(second.requests) == 2, "it does not rest: it may read the next one"


def test_a_request_that_only_a_stand_in_could_take_and_cannot_read_is_too_long(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openai_chat([NO_QUOTA]) as first, openai_chat([TOO_LONG["vllm"], Says("short enough")]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        model = models(first, fallbacks=(OTHER,))
        with pytest.raises(ContextExhausted, match=r"hosted_vllm/other.* longer context"):
            turn(model, "long")
        assert turn(model, "shortened") == "short enough"
