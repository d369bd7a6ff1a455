"""How much a model can read: what the goal says, else its server, else LiteLLM; and how much room its answer has."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from tests.agents.chat_models import Models
from tests.servers.openai_chat import Says, nobody, openai_chat

VLLM = {"/v1/models": {"object": "list", "data": [{"id": "mine", "object": "model", "max_model_len": 4096}]}}
"""vLLM's and SGLang's list of models."""
LLAMA_CPP = {
    "/v1/models": {"object": "list", "data": [{"id": "mine.gguf", "object": "model", "meta": {"n_ctx_train": 131072}}]},
    "/props": {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 1, "model_path": "mine.gguf"},
}
"""llama.cpp says what the model was trained for in one place, and what it reads in another."""
LM_STUDIO = {
    "/v1/models": {"object": "list", "data": [{"id": "other", "object": "model"}, {"id": "mine", "object": "model"}]},
    "/api/v0/models": {
        "object": "list",
        "data": [
            {"id": "other", "state": "not-loaded", "max_context_length": 32768},
            {"id": "mine", "state": "loaded", "max_context_length": 131072, "loaded_context_length": 12288},
        ],
    },
}
LISTED = {"/v1/models": {"data": [{"id": "x", "context_length": 9}, {"id": "mine", "context_length": 200_000}]}}
OLLAMA_SHOW = {
    "parameters": "temperature 0.7\nnum_ctx                        6144\n",
    "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
}
OLLAMA_RUNS = {"models": [{"name": "mine:latest", "model": "mine:latest", "context_length": 5120}]}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "answers")


@pytest.mark.parametrize(
    ("name", "about", "window"),
    [
        ("openai/mine", VLLM, 4096),
        ("hosted_vllm/mine", VLLM, 4096),
        ("openai/whatever-it-is-called", VLLM, 4096),
        ("openai/mine", LLAMA_CPP, 8192),
        ("lm_studio/mine", LM_STUDIO, 12288),
        ("openai/mine", LISTED, 200_000),
        ("ollama/mine", {"/api/show": OLLAMA_SHOW}, 6144),
        ("ollama/mine", {"/api/show": OLLAMA_SHOW, "/api/ps": OLLAMA_RUNS}, 5120),
        ("ollama/mine", {"/api/show": {"model_info": OLLAMA_SHOW["model_info"]}}, 16384),
        ("openai/mine", {}, None),
        ("openai/mine", {"/v1/models": ["not", "what", "we", "know"]}, None),
    ],
    ids=["vllm", "hosted vllm", "one model", "llama.cpp", "lm studio", "a list", "ollama", "ollama that runs it",
         "ollama without num_ctx", "silent", "strange"],
)  # fmt: skip
def test_the_window_is_what_the_server_says(
    models: Models, name: str, about: dict[str, Any], window: int | None
) -> None:
    with openai_chat([Says("hello")], about) as server:
        assert models(server, name).window == window
        asked = len(server.looked_up)
        assert models(server, name).window == window
        assert len(server.looked_up) == (asked if window else 2 * asked), "it is asked once a process"
    assert server.requests == []


def test_what_the_goal_says_wins_and_asks_nobody(models: Models) -> None:
    with openai_chat([Says("hello")], VLLM) as server:
        assert models(server, "openai/mine", window=3000).window == 3000
    assert server.looked_up == []


def test_a_hosted_model_has_what_litellm_knows(models: Models) -> None:
    assert models("", "openai/gpt-4o").window == 128_000
    assert models("", "anthropic/claude-sonnet-4-5").window == 200_000
    assert models("", "openai/a-model-that-nobody-knows").window is None


def test_a_server_that_does_not_run_says_nothing(models: Models) -> None:
    assert models(nobody(), "openai/mine").window is None


def test_an_answer_has_a_share_of_a_small_window(models: Models) -> None:
    with openai_chat([Says("hello")], VLLM) as server:
        model = models(server, "openai/mine")
        model.reply([HumanMessage("hello")], {})
        wide = models(server, "openai/mine", window=1_000_000)
        wide.reply([HumanMessage("hello again")], {})
    assert [request.body["max_tokens"] for request in server.requests] == [1024, 8192]
    assert (model.room_for_an_answer, wide.room_for_an_answer) == (1024, 8192)


def test_ollama_is_told_to_read_as_much_as_we_count_on(models: Models) -> None:
    with openai_chat([Says("hello")], {"/api/show": OLLAMA_SHOW}) as server:
        models(server, "ollama/mine").reply([HumanMessage("hello")], {})
        models(server, "ollama/mine", window=20_000).reply([HumanMessage("more")], {})
    assert [request.path for request in server.requests] == ["/api/chat", "/api/chat"]
    assert [request.body["options"]["num_ctx"] for request in server.requests] == [6144, 20_000]


def test_the_servers_list_is_asked_with_the_key_of_its_chat_and_no_other(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openai_chat([Says("hello")], VLLM) as server:
        elsewhere = server.base_url.replace("127.0.0.1", "0.0.0.0")
        assert models(elsewhere, "openai/mine").window == 4096
        monkeypatch.setenv("POSTGRAD_BRAIN_KEY", "its-own-key-1")
        assert models(elsewhere, "openai/mine-too").window == 4096
    keys = [key for key, _ in itertools.groupby(request.headers["authorization"] for request in server.looked_up)]
    assert keys == ["Bearer none", "Bearer its-own-key-1"]
