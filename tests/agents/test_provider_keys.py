"""Whose key a request has with it: of Hugging Face with HF_TOKEN or a saved token alone, of servers of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from agents.models.keys import key_for
from shared_memory.errors import Unavailable
from tests.agents.chat_models import WIRES, Models, address
from tests.servers.openai_chat import WRONG_KEY, ChatServer, Fault, Says, openai_chat

HUB = "huggingface/novita/meta-llama/llama"
KEY = "sk-canary-1234567890abcdefghij"
TOKEN, SAVED = "hf_" + "aB3dE" * 6, "hf_" + "zY8xW" * 6


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without keys; where `hf auth login` would save its token."""
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_API_KEY", "HOSTED_VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "answers")


def sent_key(models: Models, server: ChatServer, name: str, api_base: str | None = None) -> str | None:
    """The Authorization header of a request."""
    place = len(server.requests)
    model = models(server.base_url if api_base is None else api_base, name)
    assert model.reply([HumanMessage(f"question {place}")], {}).content == "hello"
    return server.requests[place].headers.get("authorization")


def test_hugging_face_works_with_hf_token_alone(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with openai_chat([Says("hello")]) as server:
        assert sent_key(models, server, HUB) == f"Bearer {TOKEN}"
        assert server.requests[0].body["model"] == "novita/meta-llama/llama"


def test_hugging_face_works_with_a_token_that_was_saved(models: Models, home: Path) -> None:
    (home / "token").write_text(SAVED)
    with openai_chat([Says("hello")]) as server:
        assert sent_key(models, server, HUB) == f"Bearer {SAVED}"
    assert key_for(HUB, "", "brain") == SAVED, "also to the router, where LiteLLM alone would send none"
    assert SAVED not in "".join(file.read_text() for file in models.folder.iterdir())


def test_a_token_in_the_environment_is_left_to_litellm(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    (home / "token").write_text(SAVED)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert key_for(HUB, "", "brain") is None


def test_a_token_of_hugging_face_goes_to_no_address_out_of_a_goal(
    models: Models, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (home / "token").write_text(SAVED)
    with openai_chat([Says("hello")]) as server:
        elsewhere = server.base_url.replace("127.0.0.1", "0.0.0.0")
        assert sent_key(models, server, HUB, elsewhere) == "Bearer none"
    assert key_for("openai/gpt-4o", "", "brain") is None


def test_a_refused_token_of_hugging_face_is_told_by_its_name(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    with openai_chat([WRONG_KEY]) as server:
        monkeypatch.setenv("HF_API_BASE", f"{server.base_url}/chat/completions")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        with pytest.raises(Unavailable, match="refuses the key; set HF_TOKEN to a valid one"):
            models("", "huggingface/org/llama").reply([HumanMessage("hello")], {})
    assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "name", ["openai/mine", "hosted_vllm/mine", "lm_studio/mine", "ollama/mine", "ollama_chat/mine"]
)
def test_a_server_on_this_machine_needs_no_key_and_is_asked_for_the_model_by_its_name(
    models: Models, name: str
) -> None:
    with openai_chat([Says("hello")]) as server:
        sent_key(models, server, name, server.root if name.startswith("ollama") else server.base_url)
    (request,) = server.requests
    assert request.body["model"] == "mine"
    assert request.path == ("/api/chat" if name.startswith("ollama") else "/v1/chat/completions")


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai/mine", "OPENAI_API_BASE"),
        ("hosted_vllm/mine", "HOSTED_VLLM_API_BASE"),
        ("lm_studio/mine", "LM_STUDIO_API_BASE"),
        ("ollama/mine", "OLLAMA_API_BASE"),
    ],
)
def test_a_server_that_the_environment_names_needs_no_api_base(
    models: Models, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")
    about = {"/v1/models": {"data": [{"id": "mine", "max_model_len": 4096}]}, "/api/ps": {
        "models": [{"name": "mine", "context_length": 4096}]}}  # fmt: skip
    with openai_chat([Says("hello")], about) as server:
        monkeypatch.setenv(variable, server.root if name.startswith("ollama") else server.base_url)
        sent_key(models, server, name, "")
        assert models("", name).window == 4096
    assert server.requests[0].body["model"] == "mine"


@pytest.mark.parametrize("name", ["anthropic/claude-sonnet-4-5", HUB])
def test_a_key_does_not_go_to_the_address_of_another_provider(
    models: Models, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with openai_chat([Says("hello")]) as server:
        elsewhere = address(server, name).replace("127.0.0.1", "0.0.0.0")
        monkeypatch.setenv("OPENAI_API_BASE", elsewhere)
        monkeypatch.setenv("TRACKER_BASE_URL", elsewhere)
        sent_key(models, server, name, elsewhere)
        assert not any(secret in str(server.requests[0].headers) for secret in (KEY, TOKEN))
        monkeypatch.setenv({HUB: "HF_API_BASE"}.get(name, "ANTHROPIC_BASE_URL"), elsewhere)
        sent_key(models, server, name, elsewhere)
        assert any(secret in str(server.requests[1].headers) for secret in (KEY, TOKEN))


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", [302, 307])
def test_neither_a_key_nor_a_conversation_follows_a_redirect_to_another_host(
    models: Models, monkeypatch: pytest.MonkeyPatch, name: str, on_words: object, status: int
) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(variable, KEY)
    monkeypatch.setattr("agents.provider.time.sleep", lambda seconds: None)
    path = {"anthropic": "/v1/messages", "ollama": "/api/chat"}.get(name.partition("/")[0], "/v1/chat/completions")
    with openai_chat([Says("hello")]) as other:
        moved = Fault(status, "moved", headers={"Location": other.root.replace("127.0.0.1", "localhost") + path})
        with openai_chat([moved]) as server, pytest.raises(Unavailable, match=r"then resume the run"):
            models(server, name, on_words=on_words).reply([HumanMessage("hello")], {})
    assert server.requests
    assert other.requests == other.looked_up == []


def test_a_redirect_to_the_same_host_is_followed(models: Models) -> None:
    moved = Fault(307, "moved", headers={"Location": "/v1/chat/completions"})
    with openai_chat([moved, Says("hello")]) as server:
        assert models(server, "hosted_vllm/mine").reply([HumanMessage("hello")], {}).content == "hello"
    assert len(server.requests) == 2


def test_nothing_is_printed_beside_what_is_ours(
    models: Models, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with openai_chat([Says("hello")]) as server:
        monkeypatch.setenv("HF_API_BASE", f"{server.base_url}/chat/completions")
        models("", "huggingface/org/llama").reply([HumanMessage("hello")], {})
    assert len(server.requests) == 1
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")
