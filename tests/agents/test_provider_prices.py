"""What a request costs: by the home's own prices, by LiteLLM's with what was cached, or nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from agents.llm import LanguageModel, Tally
from agents.models.rates import Rates
from agents.provider import Provider
from shared_memory.errors import BadInput
from shared_memory.settings import ModelPrice, load_settings
from tests.agents.chat_models import Models, address
from tests.servers.openai_chat import Says, openai_chat

QUESTION = [SystemMessage("be brief"), HumanMessage("what do you see?")]
WAYS = pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "sk-canary-1234567890abcdefghij")
    monkeypatch.setenv("POSTGRAD_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "answers")


class Holds(Tally):
    """Notes the worst case of every request."""

    def __init__(self) -> None:
        super().__init__()
        self.most: list[int | None] = []

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        self.most.append(usd_micro)
        return True


@WAYS
@pytest.mark.parametrize("name", ["openai/my-model", "openai/gpt-4o", "anthropic/claude-sonnet-4-5", "ollama/llama3"])
def test_a_price_of_the_home_wins_in_reservation_settlement_and_forecast(
    models: Models, home: Path, name: str, on_words: object
) -> None:
    (home / "config.toml").write_text(f'[prices."{name}"]\ninput_usd_per_million = 7\noutput_usd_per_million = 0.5\n')
    meter = Holds()
    with openai_chat([Says("hello", prompt_tokens=1000, completion_tokens=200, model="gpt-4o")]) as server:
        models(server, name, on_words=on_words, meter=meter).reply(QUESTION, {})
    assert meter.usd_micro == 7 * 1000 + 100
    (held,) = meter.most
    assert held is not None
    assert 8192 * 0.5 < held < 8192 * 0.5 + 7 * 500
    assert Provider(name).most_usd_micro(1000, 200) == 7100


def test_prices_that_are_handed_over_are_taken_instead_of_the_homes(models: Models, home: Path) -> None:
    (home / "config.toml").write_text('[prices."openai/x"]\ninput_usd_per_million = 1\noutput_usd_per_million = 1\n')
    given = {"openai/x": ModelPrice(input_usd_per_million=0.15, output_usd_per_million=0)}
    with openai_chat([Says("hello")]) as server:
        models(server, "openai/x", prices=given).reply(QUESTION, {})
    assert models.meter.usd_micro == 15


@WAYS
@pytest.mark.parametrize("name", ["openai/my-model", "hosted_vllm/my-model", "ollama/my-model",
                                  "huggingface/novita/org/my-model"])  # fmt: skip
def test_an_unknown_price_is_unknown_and_its_tokens_count(models: Models, name: str, on_words: object) -> None:
    meter = Holds()
    with openai_chat([Says("hello")]) as server:
        models(server, name, on_words=on_words, meter=meter).reply(QUESTION, {})
    assert (meter.tokens, meter.usd_micro, meter.most) == (120, None, [None])


@WAYS
def test_a_model_of_this_machine_that_litellm_lists_costs_nothing(models: Models, on_words: object) -> None:
    with openai_chat([Says("hello")]) as server:
        models(server, "ollama/llama3", on_words=on_words).reply(QUESTION, {})
    assert (models.meter.tokens, models.meter.usd_micro) == (120, 0)


@WAYS
def test_a_model_that_litellm_calls_free_at_one_provider_is_held_at_its_price(models: Models, on_words: object) -> None:
    with openai_chat([Says("hello", prompt_tokens=1_000_000, completion_tokens=0)]) as server:
        models(server, "huggingface/novita/openai/gpt-oss-20b", on_words=on_words).reply(QUESTION, {})
    assert models.meter.usd_micro is not None
    assert models.meter.usd_micro > 0


@WAYS
@pytest.mark.parametrize(
    ("name", "full", "cached", "answered"),
    [("openai/gpt-4o", 2.5, 1.25, 10), ("anthropic/claude-sonnet-4-5", 3.0, 0.3, 15)],
)
def test_what_the_provider_had_in_its_cache_costs_what_it_does(
    models: Models, name: str, full: float, cached: float, answered: float, on_words: object
) -> None:
    meter = Holds()
    with openai_chat([Says("hello", prompt_tokens=10_000, completion_tokens=100, cached_tokens=8_000)]) as server:
        models(server, name, on_words=on_words, meter=meter).reply(QUESTION, {})
    assert meter.usd_micro == round(2_000 * full + 8_000 * cached + 100 * answered)
    assert meter.tokens == 10_100


@WAYS
def test_what_the_provider_puts_into_its_cache_costs_more(models: Models, on_words: object) -> None:
    said = Says("hello", prompt_tokens=10_000, completion_tokens=100, cached_tokens=2_000, newly_cached_tokens=5_000)
    with openai_chat([said]) as server:
        models(server, "anthropic/claude-sonnet-4-5", on_words=on_words).reply(QUESTION, {})
    assert models.meter.usd_micro == pytest.approx(3_000 * 3 + 2_000 * 0.3 + 5_000 * 3.75 + 100 * 15, abs=1)
    assert models.meter.tokens == 10_100


def test_the_worst_case_has_room_for_what_is_put_into_a_cache() -> None:
    most = Provider("anthropic/claude-sonnet-4-5").most_usd_micro(1_000_000, 0)
    assert most == pytest.approx(1_000_000 * 3.0 * 1.25, rel=1e-6)


def test_claude_is_told_what_to_cache_and_nobody_else_is(models: Models) -> None:
    def marked(name: str) -> tuple[list[int], bool]:
        """Places of the messages with a mark, and whether the system message has one."""
        with openai_chat([Says("hello")]) as server:
            conversation = [*QUESTION, AIMessage("a door"), HumanMessage("and then?")]
            models(server, name).reply(conversation, {})
        (request,) = server.requests
        places = [place for place, message in enumerate(request.messages) if "cache_control" in str(message)]
        return places, "cache_control" in str(request.body.get("system"))

    assert marked("anthropic/claude-sonnet-4-5") == ([2], True)
    for name in ("openai/gpt-4o", "hosted_vllm/llama", "ollama/llama3", "huggingface/novita/org/llama"):
        assert marked(name) == ([], False), name


def test_a_mark_for_the_cache_is_no_part_of_the_question(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "anthropic/claude-sonnet-4-5"
    with openai_chat([Says("hello")]) as server:
        models(server, name).reply(QUESTION, {})
        monkeypatch.setattr("agents.provider.cache_points", lambda model: {})
        models(server, name, reasoning_effort="low").reply(QUESTION, {})
    assert len(server.requests) == 1


def test_the_dearest_token_is_kept_beside_the_answers(tmp_path: Path) -> None:
    folder = tmp_path / "answers"

    def held(question: str) -> int | None:
        meter = Holds()
        with openai_chat([Says("hello", prompt_tokens=80, completion_tokens=20, model="gpt-4o")]) as server:
            model = LanguageModel("openai/alias", api_base=address(server, "openai/"), cache=folder, meter=meter)
            model.reply([HumanMessage(question)], {})
        return meter.most[0]

    assert held("first") is None, "the price of the alias shows in its answer alone"
    assert held("second") is not None
    for file in folder.glob("*.json"):
        file.unlink()
    assert held("third") is not None, "known without the answers"
    (folder / "dearest").unlink()
    assert held("fourth") is not None, "and, for a folder of an earlier version, from the answers alone"


def test_answers_on_disk_are_read_once_to_find_the_dearest_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reads = tmp_path / "answers", list[Path]()
    found = Rates._in_answers
    monkeypatch.setattr(Rates, "_in_answers", lambda self: reads.append(folder) or found(self))
    with openai_chat([Says("hello")]) as server:
        for number in range(6):
            model = LanguageModel("openai/alias", api_base=address(server, "openai/"), cache=folder, meter=Tally())
            model.reply([HumanMessage(f"question {number}")], {})
    assert len(reads) <= 2, "though its price is unknown, and each question has a new LanguageModel"


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("input_usd_per_milion = 1\noutput_usd_per_million = 1", r"did you mean `input_usd_per_million`\?"),
        ("input_usd_per_million = 1", "`output_usd_per_million`: Field required"),
        ("input_usd_per_million = -1\noutput_usd_per_million = 1", "greater than or equal to 0"),
        ('input_usd_per_million = "much"\noutput_usd_per_million = 1', "valid number"),
        ("input_usd_per_million = inf\noutput_usd_per_million = 1", "finite number"),
    ],
)
def test_a_price_that_is_none_is_refused_with_a_hint(home: Path, table: str, told: str) -> None:
    (home / "config.toml").write_text(f'[prices."openai/my-model"]\n{table}\n')
    with pytest.raises(BadInput, match=told) as caught:
        load_settings()
    assert '[prices."openai/my-model"]' in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ['prices = "cheap"', "prices = [1]", "[prices.gpt-4]\no = 1\n[prices.gpt-4.mini]\no=1"]
)
def test_prices_that_are_no_tables_are_refused(home: Path, text: str) -> None:
    (home / "config.toml").write_text(text)
    with pytest.raises(BadInput, match="prices"):
        load_settings()
