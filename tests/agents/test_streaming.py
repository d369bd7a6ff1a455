"""A turn that is streamed: told as it comes, kept and paid for as if it had not been, and never half of it."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from httpcore._sync.connection_pool import PoolByteStream
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from agents.llm import LanguageModel, Tally
from shared_memory.errors import BudgetSpent, ContextExhausted, Unavailable
from tests.agents.chat_models import LOOK, WIRES, Models
from tests.servers.openai_chat import OVERLOADED, HangUp, Reply, Says, Stream, busy, openai_chat

QUESTION = [SystemMessage("be brief"), HumanMessage("what do you see?")]
LOOKS = Says("let me have a look", calls=(("look", {"what": "a door and a window"}),), cached_tokens=40)
BROKEN = Says("let me have a look at it", drop="broken")
ENDED = Says("let me have a look at it", drop="clean")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "sk-canary-1234567890abcdefghij")


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "answers")


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.provider.time.sleep", lambda seconds: None)


def turn(model: LanguageModel, **asked: Any) -> AIMessage:
    return model.reply(QUESTION, {"tools": [LOOK], **asked})


@pytest.mark.parametrize("name", WIRES)
def test_a_streamed_turn_is_the_same_as_one_in_one_piece(tmp_path: Path, name: str) -> None:
    said, metered, words = [], [], list[str]()
    with openai_chat([LOOKS]) as server:
        for way, on_words in (("whole", None), ("streamed", words.append)):
            models = Models(tmp_path / way)
            said.append(turn(models(server, name, on_words=on_words)))
            metered.append((models.meter.tokens, models.meter.usd_micro))
    assert [bool(request.body.get("stream")) for request in server.requests] == [False, True]
    assert "".join(words) == "let me have a look"
    assert len(words) > 1
    whole, streamed = said
    assert streamed.content == whole.content == "let me have a look"
    assert (
        [(call["name"], call["args"]) for call in streamed.tool_calls]
        == [("look", {"what": "a door and a window"})]
        == [(call["name"], call["args"]) for call in whole.tool_calls]
    )
    assert metered[0] == metered[1]
    assert metered[0][0] == 120


def test_a_streamed_turn_goes_back_into_the_conversation_and_is_replayed_from_disk(models: Models) -> None:
    words: list[str] = []
    with openai_chat([LOOKS, Says("a door")]) as server:
        model = models(server, on_words=words.append)
        first = turn(model)
        result = ToolMessage("a door", tool_call_id=first.tool_calls[0]["id"])
        second = model.reply([*QUESTION, first, result], {"tools": [LOOK]})
        again = models(server, on_words=words.append, meter=Tally())
        assert turn(again).tool_calls == first.tool_calls
        assert again.reply([*QUESTION, first, result], {"tools": [LOOK]}).content == second.content == "a door"
    assert len(server.requests) == 2, "a replay sends nothing"
    assert "".join(words) == "let me have a looka door", "and says nothing again"
    _, _, said, answered = server.requests[1].messages
    assert said["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"what": "a door and a window"}'}
    assert (answered["role"], answered["content"]) == ("tool", "a door")


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", [busy(0.1), OVERLOADED, HangUp(), BROKEN, ENDED],
                         ids=["429", "500", "hang-up", "broken", "ended"])  # fmt: skip
def test_one_layer_tries_again_and_twice(models: Models, name: str, on_words: Any, fault: Reply) -> None:
    with openai_chat([fault]) as server, pytest.raises(Unavailable, match="resume the run"):
        turn(models(server, name, on_words=on_words))
    assert len(server.requests) == 3
    assert models.meter.tokens == 0
    assert not list(models.folder.glob("*.json")), "nothing of it is kept"


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("lost", [BROKEN, ENDED], ids=["broken", "ended"])
def test_a_dropped_stream_is_asked_for_again_and_its_words_are_no_answer(models: Models, lost: Says) -> None:
    words: list[str] = []
    with openai_chat([lost, Says("all of it")]) as server:
        assert turn(models(server, on_words=words.append)).content == "all of it"
    assert len(server.requests) == 2
    assert "".join(words).endswith("all of it")
    assert models.meter.tokens == 120


class Holds(Tally):
    """Counts what is held, with room for so many requests."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.held: list[str] = []

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        if key in self.held:
            return False
        if len(self.held) == self.room:
            raise BudgetSpent("limits.llm_tokens is spent; raise it in the goal, then resume the run")
        self.held.append(key)
        return True

    def release(self, key: str) -> None:
        self.held.remove(key)


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("lost", [BROKEN, ENDED], ids=["broken", "ended"])
def test_a_dropped_stream_keeps_its_hold(models: Models, lost: Says) -> None:
    holds = Holds(room=9)
    with openai_chat([lost, lost, Says("all of it")]) as server:
        turn(models(server, on_words=lambda text: None, meter=holds))
    assert len(holds.held) == 3, "two are lost, and may be billed"
    spent = Holds(room=1)
    with openai_chat([lost]) as server, pytest.raises(BudgetSpent):
        turn(models(server, "openai/another", on_words=lambda text: None, meter=spent))
    assert len(server.requests) == 1


@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
@pytest.mark.parametrize("cut", ['{"what": "a do', '{"what": ', "what is this"])
def test_arguments_of_a_tool_that_were_cut_off_are_no_call(models: Models, on_words: Any, cut: str) -> None:
    with openai_chat([Says("", calls=(("look", cut), ("look", {"what": "all"})), finish_reason="length")]) as server:
        said = turn(models(server, on_words=on_words))
    assert [call["args"] for call in said.tool_calls] == [{"what": "all"}]
    assert [(call["name"], call["args"]) for call in said.invalid_tool_calls] == [("look", cut)]


def test_a_slow_first_token_is_waited_for(models: Models) -> None:
    with openai_chat([Says("here it is", pause=0.5)]) as server:
        assert turn(models(server, on_words=lambda text: None)).content == "here it is"
    assert len(server.requests) == 1


@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
def test_a_server_that_counts_no_tokens_has_the_worst_case_booked(models: Models, on_words: Any) -> None:
    with openai_chat([Says("hello there", prompt_tokens=0, completion_tokens=0)]) as server:
        turn(models(server, on_words=on_words))
    assert models.meter.tokens > 8192
    assert models.meter.usd_micro is not None
    assert models.meter.usd_micro > 8192 * 10, "at $10 for a million tokens of answers"


def event(*choices: dict[str, Any], **more: Any) -> str:
    """A piece of a stream in OpenAI's format."""
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return f"data: {json.dumps(chunk)}\n\n"


def piece(finish_reason: str | None = None, **delta: Any) -> str:
    return event({"index": 0, "delta": delta, "finish_reason": finish_reason})


def call(index: int | None, key: str | None, name: str | None, arguments: str | None) -> str:
    part: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    return piece(tool_calls=[part | {k: v for k, v in (("index", index), ("id", key)) if v is not None}])


USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
END = (event(usage=USAGE), "data: [DONE]\n\n")
WORDS = (piece(role="assistant", content="all "), piece(content="of it"))


@pytest.mark.parametrize("name", ["openai/gpt-4o", "hosted_vllm/llama", "huggingface/novita/org/llama"])
@pytest.mark.parametrize(
    ("pieces", "tokens"),
    [
        ((*WORDS, piece("stop"), event(usage=USAGE)), 120),
        ((*WORDS, event({"index": 0, "delta": {}, "finish_reason": "stop"}, usage=USAGE), END[1]), 120),
        ((event(), *WORDS, event(usage=USAGE), piece("stop"), END[1]), 120),
        ((": ping\n\n", *WORDS, ": ping\n\n", piece("stop"), *END), 120),
        (
            (
                event({"index": 0, "delta": {"content": "all "}}, usage={**USAGE, "completion_tokens": 9}),
                event({"index": 0, "delta": {"content": "of it"}}, usage={**USAGE, "completion_tokens": 19}),
                piece("stop"), *END,
            ), 120,
        ),
        ((*WORDS, piece("stop"), event(usage=None), END[1]), None),
        ((*WORDS, piece("stop"), END[1]), None),
    ],
    ids=["no DONE", "counted with the end", "counted before it", "pings", "counted all along", "null", "uncounted"],
)  # fmt: skip
def test_a_stream_is_read_and_paid_for_however_its_server_ends_it(
    models: Models, name: str, pieces: tuple[str, ...], tokens: int | None
) -> None:
    with openai_chat([Stream(pieces)]) as server:
        assert turn(models(server, name, on_words=lambda text: None)).content == "all of it"
    assert len(server.requests) == 1
    if tokens is None:
        assert models.meter.tokens > 8192, "the worst case"
    else:
        assert models.meter.tokens == tokens


@pytest.mark.parametrize("name", ["openai/gpt-4o", "hosted_vllm/llama", "huggingface/novita/org/llama"])
@pytest.mark.parametrize(
    ("pieces", "args"),
    [
        ((call(0, "a", "look", '{"what": "a"}'), call(3, "b", "look", '{"what": "b"}')), ["a", "b"]),
        ((call(0, None, "look", '{"what": "a"}'),), ["a"]),
        ((call(None, "a", "look", '{"what": "a"}'), call(None, "b", "look", '{"what": "b"}')), ["a", "b"]),
        ((call(0, "a", "look", '{"what": "a"}'), call(0, "b", "look", '{"what": "b"}')), ["a", "b"]),
        ((call(0, "a", "lo", ""), call(0, None, "ok", '{"what": "a"}')), ["a"]),
        ((call(0, "a", "look", '{"what": "\\ud83d\\u'), call(0, None, None, 'de00"}')), ["😀"]),
        (
            (
                call(0, "a", "look", None), call(1, "b", "look", None), call(0, None, None, '{"what": '),
                call(1, None, None, '{"what": "b"'), call(0, None, None, '"a"}'), call(1, None, None, "}"),
            ), ["a", "b"],
        ),
    ],
    ids=["a gap", "no id", "no index", "one index", "half a name", "half a letter", "interleaved"],
)  # fmt: skip
def test_calls_are_put_together_however_they_come(
    models: Models, name: str, pieces: tuple[str, ...], args: list[str]
) -> None:
    with openai_chat([Stream((*pieces, piece("tool_calls"), *END))]) as server:
        said = turn(models(server, name, on_words=lambda text: None))
    assert [(each["name"], each["args"]) for each in said.tool_calls] == [("look", {"what": what}) for what in args]
    assert said.invalid_tool_calls == []


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("name", ["openai/gpt-4o", "hosted_vllm/llama", "huggingface/novita/org/llama"])
@pytest.mark.parametrize("code", [429, 500, "server_error"])
def test_an_error_in_the_middle_of_a_stream_is_one_that_is_tried_again(models: Models, name: str, code: Any) -> None:
    error = f"data: {json.dumps({'error': {'message': 'it failed', 'type': 'server_error', 'code': code}})}\n\n"
    with openai_chat([Stream((*WORDS, error, END[1])), Says("whole")]) as server:
        assert turn(models(server, name, on_words=lambda text: None)).content == "whole"
    assert len(server.requests) == 2


@pytest.mark.parametrize("name", ["openai/gpt-4o", "hosted_vllm/llama"])
def test_an_overflow_that_a_stream_tells_is_one(models: Models, name: str) -> None:
    said = {"message": "This model's maximum context length is 4096 tokens", "code": 400}
    stream = Stream((f"data: {json.dumps({'error': said})}\n\n", END[1]))
    with openai_chat([stream]) as server, pytest.raises(ContextExhausted, match="longer context"):
        turn(models(server, name, on_words=lambda text: None))
    assert len(server.requests) == 1


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("reason", ["error", "network_error"])
def test_an_answer_that_a_fault_has_ended_is_none(models: Models, reason: str) -> None:
    with openai_chat([Says("half of", finish_reason=reason), Says("all of it")]) as server:
        assert turn(models(server, "hosted_vllm/llama")).content == "all of it"
    assert len(server.requests) == 2


@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
def test_a_silence_in_the_middle_of_a_stream_is_a_lost_one_and_one_before_it_is_not_tried_again(
    models: Models, monkeypatch: pytest.MonkeyPatch, on_words: Any
) -> None:
    monkeypatch.setattr("agents.provider.TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("agents.provider.RETRIES", 0)
    with openai_chat([Says("late", pause=1.5)]) as server, pytest.raises(Unavailable, match="gave no answer in time"):
        turn(models(server, "hosted_vllm/llama", on_words=on_words))
    assert len(server.requests) == 1
    if on_words:
        with openai_chat([Stream(WORDS, pause=1.5)]) as server, pytest.raises(Unavailable, match="out of reach"):
            turn(models(server, "hosted_vllm/llama", on_words=on_words))


@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
def test_signed_thoughts_go_back_as_they_came(models: Models, on_words: Any) -> None:
    name, thinks = "anthropic/claude-sonnet-4-5", replace(LOOKS, thoughts="a window, I think")
    with openai_chat([thinks, thinks, Says("a door")]) as server:
        conversation: list[Any] = [*QUESTION]
        for _ in range(3):  # each by a model of its own, as after a crash
            model = models(server, name, on_words=on_words, reasoning_effort="low")
            said = model.reply(conversation, {"tools": [LOOK]})
            conversation += [said, *(ToolMessage("a door", tool_call_id=each["id"]) for each in said.tool_calls)]
    turns = [message["content"] for message in server.requests[2].messages if message["role"] == "assistant"]
    assert [[block["type"] for block in blocks] for blocks in turns] == 2 * [["thinking", "text", "tool_use"]]
    assert [(blocks[0]["thinking"], blocks[0]["signature"]) for blocks in turns] == 2 * [
        ("a window, I think", "signed-by-the-server")
    ]


@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", ["openai/mine", "huggingface/novita/org/mine"])
def test_open_thoughts_go_back_where_the_server_says_them(models: Models, name: str, on_words: Any) -> None:
    with openai_chat([replace(LOOKS, thoughts="a window, I think"), Says("a door")]) as server:
        model = models(server, name, on_words=on_words)
        first = turn(model)
        result = ToolMessage("a door", tool_call_id=first.tool_calls[0]["id"])
        model.reply([*QUESTION, first, result], {"tools": [LOOK]})
    assert server.requests[1].messages[2]["reasoning_content"] == "a window, I think"


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("name", WIRES)
def test_no_stream_is_left_for_the_garbage_collector_to_close(models: Models, name: str) -> None:
    """It may come while this thread holds the lock of the connections, which closing one takes: nobody goes on then."""
    with collector_off(), openai_chat([LOOKS, BROKEN, Says("a door")]) as server:
        assert turn(models(server, name, on_words=lambda text: None)).tool_calls
        models(server, name, on_words=lambda text: None).reply([HumanMessage("again")], {})
        assert not [each for each in gc.get_objects() if type(each) is PoolByteStream and not each._closed]
    assert len(server.requests) == 3


@contextmanager
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
