"""What a language model takes is held in the run's budget before it is sent, and settled by what it took."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.brain import Role
from agents.llm import LanguageModel
from graph.bookings import BudgetMeter
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.errors import BudgetSpent, Unavailable
from shared_memory.goal import Limits
from shared_memory.records import Record
from tests.servers.openai_chat import NO_QUOTA, WRONG_KEY, Fault, HangUp, Says, busy, nobody, openai_chat

ALIAS = Says({"number": 1}, prompt_tokens=8000, completion_tokens=2500, model="gpt-4o")
"""An answer for $0.045, by the price of the model that the server names."""


class Choice(Record):
    number: int


class BudgetOf(BudgetMeter):
    """A run's meter, with its budget and its answers at hand."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.answers = folder / "answers"
        self.budget = Budget(Database.open(folder / "b.db"), "r", limits)
        super().__init__(self.budget, Role.TRAINER, lambda: None)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-canary-1234567890abcdefghij")


def ask(base_url: str, meter: BudgetOf, question: str = "which number?", name: str = "openai/gpt-4o") -> int:
    """One question to a model that has just been opened: what it knows of the past is on disk."""
    model = LanguageModel(name, api_base=base_url, cache=meter.answers, meter=meter)
    return model.ask(Choice, [{"role": "user", "content": question}]).number


def test_tokens_and_dollars_are_booked_in_the_budget_of_the_run(tmp_path: Path) -> None:
    meter = BudgetOf(tmp_path, Limits(usd=1, llm_tokens=20_000))
    with openai_chat([Says("no", prompt_tokens=1000, completion_tokens=100), Says({"number": 1})]) as server:
        ask(server.base_url, meter)
        ask(server.base_url, meter)
    spent = meter.budget.spent()
    assert (spent.llm_tokens, spent.held_llm_tokens) == (1220, 0)
    assert (spent.usd_micro, spent.held_usd_micro, spent.jobs) == (3500 + 450, 0, 0)
    assert spent.by_role == {"trainer": 3950}


@pytest.mark.parametrize(
    ("limits", "cap"), [(Limits(llm_tokens=8000), "llm_tokens"), (Limits(usd=0), "usd")], ids=["tokens", "dollars"]
)
def test_a_request_that_a_cap_leaves_no_room_for_is_not_sent(tmp_path: Path, limits: Limits, cap: str) -> None:
    with openai_chat([Says({"number": 1})]) as server, pytest.raises(BudgetSpent, match=f"limits.{cap}"):
        ask(server.base_url, BudgetOf(tmp_path, limits))
    assert server.requests == []


def test_a_price_that_only_the_answer_shows_is_the_worst_case_of_the_next_request(tmp_path: Path) -> None:
    meter = BudgetOf(tmp_path, Limits(usd=0.08))
    with openai_chat([ALIAS]) as server:
        assert ask(server.base_url, meter, "1", "openai/alias") == 1
        with pytest.raises(BudgetSpent, match=r"limits\.usd is \$0\.08: \$0\.045 spent, .* raise it in the goal"):
            ask(server.base_url, meter, "2", "openai/alias")
        assert len(server.requests) == 1, "known from disk: each question has a new LanguageModel"
        assert ask(server.base_url, meter, "2", "openai/another") == 1
    assert meter.budget.spent().usd_micro == 90_000


@pytest.mark.parametrize("usd", [0, 0.01, 0.045])
def test_a_model_without_a_known_price_is_not_asked_once_the_dollars_are_spent(tmp_path: Path, usd: float) -> None:
    meter = BudgetOf(tmp_path, Limits(usd=usd))
    with openai_chat([ALIAS]) as server:
        ask(server.base_url, meter, "1", "openai/alias")
        for name in ("openai/alias", "openai/another"):
            with pytest.raises(BudgetSpent, match=r"limits\.usd .* raise it in the goal"):
                ask(server.base_url, meter, "2", name)
    assert len(server.requests) == 1
    assert meter.budget.spent().usd_micro == 45_000


def test_a_model_that_costs_nothing_works_without_dollars(tmp_path: Path) -> None:
    meter = BudgetOf(tmp_path, Limits(usd=0))
    with openai_chat([Says({"number": 1})]) as server:
        for text in "123":
            ask(server.base_url, meter, text, "openai/a-model-of-my-own")
    assert (meter.budget.spent().llm_tokens, meter.budget.spent().usd_micro) == (360, 0)


@pytest.mark.parametrize(
    ("name", "letters", "most"),
    [
        ("openai/gemini-2.5-pro", 150_000, 0.3),
        ("openai/gemini-2.5-pro", 250_000, 0.8),
        ("dashscope/qwen-flash", 200_000, 0.015),
        ("dashscope/qwen-flash", 300_000, 0.1),
    ],
)
def test_the_worst_case_is_by_the_dearest_tier_that_a_request_can_reach(
    tmp_path: Path, name: str, letters: int, most: float
) -> None:
    lost = BudgetOf(tmp_path, Limits())
    with openai_chat([Fault(504)]) as server, pytest.raises(Unavailable, match="resume the run"):
        ask(server.base_url, lost, "x" * letters, name)
    assert most * 0.8 < lost.budget.spent().held_usd_micro / 1e6 < most


def test_a_request_that_was_turned_down_or_met_no_server_holds_nothing(tmp_path: Path) -> None:
    meter = BudgetOf(tmp_path, Limits())
    with openai_chat([WRONG_KEY]) as server, pytest.raises(Unavailable, match="refuses the key"):
        ask(server.base_url, meter)
    for name in ("openai/gpt-4o", "hosted_vllm/llama"):
        with pytest.raises(Unavailable, match="out of reach"):
            ask(nobody(), meter, name=name)
    assert meter.budget.spent().held_llm_tokens == 0


@pytest.mark.parametrize("name", ["openai/gpt-4o", "hosted_vllm/llama"])
def test_every_request_that_was_lost_keeps_its_hold_whatever_comes_of_the_next(tmp_path: Path, name: str) -> None:
    meter = BudgetOf(tmp_path, Limits())
    script = [HangUp(), HangUp(), HangUp(), WRONG_KEY, HangUp(), NO_QUOTA, busy(0.1), Says({"number": 1})]
    holds = []
    with openai_chat(script) as server:
        for _ in range(3):
            with pytest.raises(Unavailable):
                ask(server.base_url, meter, name=name)
            holds.append(meter.budget.spent().held_llm_tokens)
        for _ in range(2):
            assert ask(server.base_url, meter, name=name) == 1
    assert len(server.requests) == len(script)
    one = holds[0] // 3
    assert holds == [3 * one, 3 * one, 4 * one]
    spent = meter.budget.spent()
    assert (spent.held_llm_tokens, spent.llm_tokens) == (4 * one, 120)


def test_a_lost_request_is_not_sent_again_where_a_cap_leaves_no_room_for_both(tmp_path: Path) -> None:
    meter = BudgetOf(tmp_path, Limits(llm_tokens=12_000))
    with openai_chat([HangUp()]) as server, pytest.raises(BudgetSpent, match=r"limits\.llm_tokens"):
        ask(server.base_url, meter)
    assert len(server.requests) == 1
    assert 0 < meter.budget.spent().held_llm_tokens < 12_000


def test_an_answer_whose_run_is_killed_before_it_is_booked_is_booked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*booked: object) -> None:
        raise SystemExit

    meter = BudgetOf(tmp_path, Limits())
    with openai_chat([HangUp(), Says({"number": 1})]) as server:
        monkeypatch.setattr(meter, "settle", killed)
        with pytest.raises(SystemExit):
            ask(server.base_url, meter)
        monkeypatch.delattr(meter, "settle")
        held = meter.budget.spent().held_llm_tokens
        for _ in range(2):
            assert ask(server.base_url, meter) == 1
    assert len(server.requests) == 2
    spent = meter.budget.spent()
    assert (spent.llm_tokens, spent.usd_micro) == (120, 450)
    assert spent.held_llm_tokens == held / 2 > 0, "the one that was lost"


def test_a_request_whose_answer_went_missing_is_booked_beside_what_was_paid(tmp_path: Path) -> None:
    meter = BudgetOf(tmp_path, Limits())
    with openai_chat([Says({"number": 1})]) as server:
        for _ in range(2):
            ask(server.base_url, meter)
            for file in meter.answers.iterdir():
                file.unlink()
    assert meter.budget.spent().llm_tokens == 240


@pytest.mark.parametrize("counts", [(-1, -1), (-100, 20)])
def test_a_server_that_counts_fewer_than_no_tokens_has_the_worst_case_booked(
    tmp_path: Path, counts: tuple[int, int]
) -> None:
    meter = BudgetOf(tmp_path, Limits())
    with openai_chat([Says({"number": 1}, prompt_tokens=counts[0], completion_tokens=counts[1])]) as server:
        for _ in range(2):
            assert ask(server.base_url, meter) == 1
    assert len(server.requests) == 1
    spent = meter.budget.spent()
    assert spent.llm_tokens > 8192
    assert spent.usd_micro > 8192 * 10
