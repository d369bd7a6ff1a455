"""What a server refuses that has a way out: tools, a choice of tools, an effort; and a request that is too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from agents.llm import LanguageModel
from agents.provider import ToolsRefused
from shared_memory.errors import ContextExhausted
from shared_memory.records import Record
from tests.agents.chat_models import LOOK, Models
from tests.servers.openai_chat import (
    NO_EFFORT,
    NO_TOOL_CHOICE,
    NO_TOOLS,
    TOO_LONG,
    Fault,
    Reply,
    Request,
    Says,
    openai_chat,
)


class Number(Record):
    number: int


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-canary-1234567890abcdefghij")


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "answers")


def turn(model: LanguageModel, text: str = "hello", **asked: Any) -> str:
    said = model.reply([SystemMessage("be brief"), HumanMessage(text)], asked)
    return str(said.content)


@pytest.mark.parametrize("server_kind", NO_TOOLS)
def test_a_server_without_tools_is_told_apart_and_asked_once(models: Models, server_kind: str) -> None:
    with openai_chat([NO_TOOLS[server_kind], Says("in words")]) as server:
        model = models(server, "openai/mine")
        for text in ("first", "second"):
            with pytest.raises(ToolsRefused, match=r"takes no tools; .* then resume the run"):
                turn(model, text, tools=[LOOK])
        assert len(server.requests) == 1, "it is remembered"
        assert turn(model, "third") == "in words"


def test_a_fault_of_a_request_with_tools_is_not_taken_for_a_refusal_of_tools(models: Models) -> None:
    wrong = Fault(400, "messages with role 'tool' must be a response to a preceding message with 'tool_calls'")
    with openai_chat([wrong]) as server, pytest.raises(Exception, match="does not take the request") as caught:
        turn(models(server), tools=[LOOK])
    assert not isinstance(caught.value, ToolsRefused)


@pytest.mark.parametrize("server_kind", NO_TOOL_CHOICE)
def test_a_choice_of_tools_that_is_refused_is_left_to_the_model(models: Models, server_kind: str) -> None:
    with openai_chat([NO_TOOL_CHOICE[server_kind], Says("as you like")]) as server:
        model = models(server, "openai/mine")
        for text in ("first", "second"):
            assert turn(model, text, tools=[LOOK], tool_choice="required") == "as you like"
    assert [request.body["tool_choice"] for request in server.requests] == ["required", "auto", "auto"]
    assert models.meter.tokens == 240


def test_a_server_that_refuses_one_thing_after_the_other_ends_without_tools(models: Models) -> None:
    def script(request: Request) -> Reply:
        if "reasoning_effort" in request.body:
            return NO_EFFORT
        if request.body.get("tool_choice") == "required":
            return NO_TOOL_CHOICE["openai-like"]
        return NO_TOOLS["vllm"] if request.body.get("tools") else Says("in words")

    with openai_chat(script) as server:
        model = models(server, "openai/mine", reasoning_effort="low")
        with pytest.raises(ToolsRefused):
            turn(model, tools=[LOOK], tool_choice="required")
        assert len(server.requests) == 3
        assert turn(model) == "in words"
    assert len(server.requests) == 4


def test_an_effort_that_is_refused_is_left_out_from_then_on(models: Models) -> None:
    def script(request: Request) -> Reply:
        return NO_EFFORT if "reasoning_effort" in request.body else Says({"number": 1})

    with openai_chat(script) as server:
        model = models(server, "hosted_vllm/mine", reasoning_effort="high")
        assert model.ask(Number, [{"role": "user", "content": "which?"}]) == Number(number=1)
        assert turn(model) == '{"number": 1}'
    assert ["reasoning_effort" in request.body for request in server.requests] == [True, False, False]
    assert "response_format" in server.requests[1].body, "nothing else is given up"


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("openai/gpt-5", "low"),
        ("openai/a-model-of-my-own", "low"),
        ("hosted_vllm/gpt-oss", "low"),
        ("lm_studio/gpt-oss", "low"),
        ("huggingface/novita/openai/gpt-oss-20b", "low"),
        ("huggingface/novita/org/a-model", "low"),
        ("openai/gpt-4o", None),
    ],
)
def test_the_effort_goes_to_models_that_may_know_it(models: Models, name: str, sent: str | None) -> None:
    with openai_chat([Says("hello")]) as server:
        turn(models(server, name, reasoning_effort="low"))
        turn(models(server, name), "without")
    assert [request.body.get("reasoning_effort") for request in server.requests] == [sent, None]
    assert not any("allowed_openai_params" in request.raw for request in server.requests)


def test_the_effort_becomes_thoughts_where_the_provider_calls_it_so(models: Models) -> None:
    with openai_chat([Says("hello")]) as server:
        turn(models(server, "anthropic/claude-sonnet-4-5", reasoning_effort="low"))
        turn(models(server, "ollama/gpt-oss", reasoning_effort="low"))
    claude, ollama = server.requests
    assert claude.body["thinking"]["type"] == "enabled"
    assert claude.body["max_tokens"] > claude.body["thinking"]["budget_tokens"]
    assert ollama.body["think"] == "low"


@pytest.mark.parametrize("server_kind", TOO_LONG)
@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
def test_a_request_that_is_too_long_is_known_in_every_servers_words(
    models: Models, server_kind: str, on_words: Any
) -> None:
    with openai_chat([TOO_LONG[server_kind]]) as server, pytest.raises(ContextExhausted, match="longer context"):
        turn(models(server, "openai/mine", on_words=on_words))
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["hosted_vllm/llama", "ollama/llama3", "anthropic/claude-sonnet-4-5"])
def test_a_record_that_is_too_long_to_ask_for_is_not_asked_for_again(models: Models, name: str) -> None:
    with openai_chat([TOO_LONG["vllm's prompt"]]) as server, pytest.raises(ContextExhausted):
        models(server, name).ask(Number, [{"role": "user", "content": "which?"}])
    assert len(server.requests) == 1
