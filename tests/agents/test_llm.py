"""A language model over real HTTP: what is sent, how often, at what price, and what its failures come to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from langchain_core.messages import HumanMessage
from pydantic import Field

from agents.llm import InvalidAnswer, LanguageModel, Tally
from shared_memory.errors import ContextExhausted, PostgradError, Unavailable
from shared_memory.records import Record
from tests.servers.openai_chat import (
    NO_QUOTA,
    NO_RESPONSE_FORMAT,
    NO_SUCH_MODEL,
    WRONG_KEY,
    Fault,
    HangUp,
    Says,
    busy,
    nobody,
    openai_chat,
)

KEY = "sk-canary-1234567890abcdefghij"
QUESTION = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "which number?"}]

Model = Callable[..., LanguageModel]


class Choice(Record):
    number: int = Field(ge=1)
    kind: Literal["odd", "even"] = "odd"
    why: str = ""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def model(tmp_path: Path, tally: Tally) -> Model:
    def make(base_url: str, name: str = "openai/gpt-4o", **changes: object) -> LanguageModel:
        return LanguageModel(name, **{"api_base": base_url, "cache": tmp_path / "answers", "meter": tally} | changes)  # type: ignore[arg-type]

    return make


def test_an_answer_becomes_the_record_that_was_asked_for(model: Model) -> None:
    with openai_chat([Says({"number": 3, "kind": "odd", "why": "it is small"})]) as server:
        assert model(server.base_url).ask(Choice, QUESTION) == Choice(number=3, kind="odd", why="it is small")

    (request,) = server.requests
    assert request.messages == QUESTION
    bound = request.body["response_format"]["json_schema"]
    assert bound["strict"] is True
    assert bound["schema"]["required"] == ["number", "kind", "why"]
    assert "default" not in str(bound["schema"])


def test_an_invalid_answer_is_sent_back_once_with_the_reason(model: Model) -> None:
    with openai_chat([Says({"number": 0}), Says({"number": 2})]) as server:
        assert model(server.base_url).ask(Choice, QUESTION).number == 2

    first, second = server.requests
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[-2] == {"role": "assistant", "content": '{"number": 0}'}
    assert "`number`: Input should be greater than or equal to 1" in second.messages[-1]["content"]


@pytest.mark.parametrize("wrong", ["I would rather not", '{"number": 1', '{"number": NaN}', '{"a":' * 5000, ""])
def test_what_is_no_record_is_refused_after_the_second_time(model: Model, wrong: str) -> None:
    with openai_chat([Says(wrong)]) as server, pytest.raises(InvalidAnswer, match="gave no usable Choice"):
        model(server.base_url).ask(Choice, QUESTION)
    assert len(server.requests) == 2


def test_a_fault_beyond_the_schema_is_sent_back_like_one_of_the_schema(model: Model) -> None:
    with openai_chat([Says({"number": 4}), Says({"number": 5})]) as server:
        chosen = model(server.base_url).ask(Choice, QUESTION, lambda each: "4 is taken" if each.number == 4 else "")
    assert chosen.number == 5
    assert "4 is taken" in server.requests[1].messages[-1]["content"]


def test_a_server_without_structured_output_is_asked_for_json_in_text(model: Model) -> None:
    words = 'Let me think {really}.\n```json\n{"number": 7}\n```\nThat is {all}.'
    with openai_chat([NO_RESPONSE_FORMAT, Says(words)]) as server:
        assert model(server.base_url).ask(Choice, QUESTION).number == 7
    assert ["response_format" in request.body for request in server.requests] == [True, False]


def test_control_characters_do_not_reach_a_terminal(model: Model) -> None:
    with openai_chat([Says({"number": 1, "why": "\x1b[2Jgone\x07\u202e\ud800"})]) as server:
        assert model(server.base_url).ask(Choice, QUESTION).why == "[2Jgone"


def test_a_rate_limit_is_waited_for_as_long_as_the_server_says(model: Model) -> None:
    with openai_chat([busy(1.5), Says({"number": 1})]) as server:
        began = time.monotonic()
        assert model(server.base_url).ask(Choice, QUESTION).number == 1
        assert time.monotonic() - began >= 1.5
    assert len(server.requests) == 2


@pytest.mark.parametrize("name", ["openai/gpt-4o", "hosted_vllm/llama"])
def test_every_provider_is_tried_three_times_and_not_more(model: Model, name: str) -> None:
    with openai_chat([busy(0.1)]) as server, pytest.raises(Unavailable, match="over its rate limit"):
        model(server.base_url, name).ask(Choice, QUESTION)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "told", "requests"),
    [
        (WRONG_KEY, "refuses the key; set OPENAI_API_KEY", 1),
        (NO_SUCH_MODEL, "does not exist", 1),
        (NO_QUOTA, "no quota left; top it up", 1),
        (busy(600), "over its rate limit", 1),
        (Fault(503, "overloaded", type="server_error"), "out of reach", 3),
        (HangUp(), "out of reach", 3),
        (Fault(400, "messages: at least one\nis required"), "does not take the request", 2),
    ],
    ids=["wrong key", "unknown model", "no quota", "long wait", "overloaded", "hang-up", "bad request"],
)
def test_a_model_that_cannot_be_used_is_one_line_with_the_next_move(
    model: Model, fault: Fault | HangUp, told: str, requests: int
) -> None:
    with openai_chat([fault]) as server, pytest.raises(PostgradError) as caught:
        model(server.base_url).ask(Choice, QUESTION)

    line = str(caught.value)
    assert told in line
    assert line.endswith("then resume the run")
    assert "\n" not in line
    assert "sk-" not in line
    assert len(server.requests) == requests


def test_a_brief_too_long_for_the_model_has_an_exit_code_of_its_own(model: Model) -> None:
    too_long = Fault(400, "This model's maximum context length is 512 tokens", code="context_length_exceeded")
    with openai_chat([too_long]) as server, pytest.raises(ContextExhausted, match="longer context") as caught:
        model(server.base_url).ask(Choice, QUESTION)
    assert caught.value.exit_code == 7
    assert len(server.requests) == 1


def test_a_server_that_does_not_run_and_a_provider_that_does_not_exist_are_told_apart(model: Model) -> None:
    with pytest.raises(Unavailable, match="out of reach"):
        model(nobody()).ask(Choice, QUESTION)
    with pytest.raises(Unavailable, match=r"does not take the request .*check \[brain\]"):
        model("", "gibberish").ask(Choice, QUESTION)


def test_an_answer_on_disk_is_not_asked_for_again_and_books_the_same(model: Model) -> None:
    with openai_chat([Says({"number": 0}), Says({"number": 2})]) as server:
        first = model(server.base_url).ask(Choice, QUESTION)
    again = Tally()
    assert model(server.base_url, meter=again).ask(Choice, QUESTION) == first
    assert len(server.requests) == 2
    assert (again.tokens, again.usd_micro) == (240, 900)


@pytest.mark.parametrize("left", [b"", b"\0" * 40, b'{"text": "{\\"numb'])
def test_an_answer_that_a_power_cut_has_left_unfinished_is_asked_for_again(
    model: Model, tmp_path: Path, left: bytes
) -> None:
    with openai_chat([Says({"number": 1})]) as server:
        model(server.base_url).ask(Choice, QUESTION)
        (file,) = (tmp_path / "answers").glob("*.json")
        file.write_bytes(left)
        assert model(server.base_url).ask(Choice, QUESTION).number == 1
    assert len(server.requests) == 2


@pytest.mark.slow  # another process, which imports LiteLLM
def test_a_turn_is_on_disk_when_the_process_is_killed_the_next_moment(model: Model, tmp_path: Path) -> None:
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from langchain_core.messages import HumanMessage
        from agents.llm import LanguageModel, Tally
        model = LanguageModel("openai/gpt-4o", api_base=sys.argv[1], cache=Path(sys.argv[2]), meter=Tally())
        model.reply([HumanMessage("which number?")], {})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with openai_chat([Says("7")]) as server:
        done = subprocess.run([sys.executable, "-c", code, server.base_url, str(tmp_path / "answers")], check=False)
        assert done.returncode == -9
        assert model(server.base_url).reply([HumanMessage("which number?")], {}).content == "7"
    assert len(server.requests) == 1


def test_what_was_refused_is_asked_anew_once_it_is_forgotten(model: Model, tally: Tally) -> None:
    with openai_chat([Says("no"), Says("no"), Says({"number": 1})]) as server:
        asked = model(server.base_url)
        with pytest.raises(InvalidAnswer) as caught:
            asked.ask(Choice, QUESTION)
        with pytest.raises(InvalidAnswer):
            asked.ask(Choice, QUESTION)
        assert len(server.requests) == 2
        asked.forget(caught.value)
        assert asked.ask(Choice, QUESTION).number == 1
    assert len(server.requests) == 3


def test_an_unknown_price_is_none_and_its_tokens_count(model: Model, tally: Tally) -> None:
    with openai_chat([Says({"number": 1})]) as server:
        model(server.base_url, "openai/a-model-of-my-own").ask(Choice, QUESTION)
    assert (tally.tokens, tally.usd_micro) == (120, None)


def test_a_server_that_counts_no_tokens_has_the_worst_case_booked(model: Model, tally: Tally) -> None:
    with openai_chat([Says({"number": 1}, prompt_tokens=0, completion_tokens=0)]) as server:
        model(server.base_url).ask(Choice, QUESTION)
    assert tally.tokens > 8192


def test_secrets_are_taken_out_of_what_is_sent_and_kept(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hush-hush-42-canary")
    said = [{"role": "user", "content": f"my keys are hush-hush-42-canary and {KEY}"}]
    with openai_chat([Says(f"no, {KEY}"), Says({"number": 1})]) as server:
        model(server.base_url).ask(Choice, said)
    kept = "".join(file.read_text() for file in (tmp_path / "answers").iterdir())
    for secret in ("hush-hush-42-canary", KEY):
        assert secret not in kept
        assert not any(secret in request.raw for request in server.requests)


def test_the_persons_key_goes_to_this_machine_and_not_to_an_address_out_of_a_goal(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openai_chat([Says({"number": 1})]) as server:
        elsewhere = server.base_url.replace("127.0.0.1", "0.0.0.0")
        sent = {}
        for name, address in (("here", server.base_url), ("there", elsewhere)):
            model(address).ask(Choice, [{"role": "user", "content": name}])
            sent[name] = server.requests[-1].headers["authorization"]
        monkeypatch.setenv("POSTGRAD_BRAIN_KEY", "its-own-key-1")
        model(elsewhere).ask(Choice, [{"role": "user", "content": "its own"}])
        sent["its own"] = server.requests[-1].headers["authorization"]
        monkeypatch.setenv("OPENAI_API_BASE", elsewhere)
        model("").ask(Choice, [{"role": "user", "content": "the environment's"}])
        sent["named"] = server.requests[-1].headers["authorization"]
    assert sent == {
        "here": f"Bearer {KEY}", "there": "Bearer none", "its own": "Bearer its-own-key-1", "named": f"Bearer {KEY}",
    }  # fmt: skip


def test_a_server_on_this_machine_needs_no_key(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with openai_chat([Says({"number": 1})]) as server:
        assert model(server.base_url, "openai/local").ask(Choice, QUESTION).number == 1


def test_without_a_key_the_provider_is_not_asked(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(Unavailable, match="refuses the key; set OPENAI_API_KEY"):
        model("").ask(Choice, QUESTION)


def test_importing_the_roles_imports_no_litellm() -> None:
    code = (
        "import sys, graph.context; print([m for m in ('litellm', 'langchain_litellm', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
