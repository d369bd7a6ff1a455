"""How the chat servers write an answer on the wire: OpenAI's, Anthropic's and Ollama's, in one piece and streamed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

SIGNATURE = "signed-by-the-server"
"""Of the thoughts that Anthropic's server wants back as they were."""


@dataclass(frozen=True)
class Says:
    """An answer: text, or a value that becomes JSON."""

    content: Any
    prompt_tokens: int = 100
    completion_tokens: int = 20
    finish_reason: str = "stop"
    model: str = ""
    """That the server says it was; empty names the one that was asked."""
    calls: tuple[tuple[str, dict[str, Any] | str], ...] = ()
    """Name and arguments of the tools that it calls; arguments that are text are sent as they are."""
    thoughts: str = ""
    """What a reasoning model thinks before it answers."""
    cached_tokens: int = 0
    """Those of the request that the server had in its cache."""
    newly_cached_tokens: int = 0
    """Those that it has put there; only Anthropic's says so."""
    pause: float = 0.0
    """Seconds before the first token."""
    drop: Literal["", "broken", "clean"] = ""
    """How the answer is cut off in the middle: the connection breaks, or a stream ends without saying why."""

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else json.dumps(self.content)

    @property
    def arguments(self) -> Iterator[tuple[str, str, str]]:
        """Id, name and arguments in JSON of every call."""
        for place, (name, given) in enumerate(self.calls):
            yield f"call-{place}", name, given if isinstance(given, str) else json.dumps(given)


@dataclass(frozen=True)
class Stream:
    """A streamed answer as it is written, whatever was asked."""

    pieces: tuple[str, ...]
    pause: float = 0.0
    """Seconds after every piece."""


@dataclass(frozen=True)
class Fault:
    """An error; `message` is in the words of the server that is stood in for."""

    status: int
    message: str = "it failed"
    code: str | None = None
    type: str = "invalid_request_error"
    headers: dict[str, str] = field(default_factory=dict)


def error_of(fault: Fault, path: str) -> dict[str, Any]:
    """The body of an error, as the server of `path` writes it."""
    if path == "/api/chat":
        return {"error": fault.message}
    if path.endswith("/messages"):
        return {"type": "error", "error": {"type": fault.type, "message": fault.message}}
    return {"error": {"message": fault.message, "type": fault.type, "param": None, "code": fault.code}}


def answer_of(says: Says, path: str, body: dict[str, Any], number: int) -> dict[str, Any]:
    """The body of an answer in one piece."""
    if path == "/api/chat":
        return _ollama(says, body, says.text, done=True)
    if path.endswith("/messages"):
        return _anthropic(says, body, number)
    return _openai(says, body, number)


def stream_of(says: Says, path: str, body: dict[str, Any], number: int) -> tuple[str, Iterator[str]]:
    """The type of a streamed answer, and its pieces; the last ones say that it is over."""
    if path == "/api/chat":
        return "application/x-ndjson", _ollama_stream(says, body)
    if path.endswith("/messages"):
        return "text/event-stream", _anthropic_stream(says, body, number)
    return "text/event-stream", _openai_stream(says, body, number)


def _words(text: str) -> list[str]:
    return re.findall(r"\S*\s*", text)[:-1] or [text]


def _openai(says: Says, body: dict[str, Any], number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": says.text, "refusal": None}
    if says.thoughts:
        message["reasoning_content"] = says.thoughts
    if says.calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": given}}
            for id, name, given in says.arguments
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": says.finish_reason}
    return {
        "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_700_000_000,
        "model": says.model or body["model"], "choices": [choice], "usage": _openai_usage(says),
    }  # fmt: skip


def _openai_usage(says: Says) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": says.prompt_tokens,
        "completion_tokens": says.completion_tokens,
        "total_tokens": says.prompt_tokens + says.completion_tokens,
    }
    if says.cached_tokens:
        usage["prompt_tokens_details"] = {"cached_tokens": says.cached_tokens}
    return usage


def _openai_stream(says: Says, body: dict[str, Any], number: int) -> Iterator[str]:
    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = {
            "id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": says.model or body["model"], "choices": choices, **more,
        }  # fmt: skip
        return f"data: {json.dumps(chunk)}\n\n"

    def delta(finish_reason: str | None = None, **said: Any) -> str:
        return event([{"index": 0, "delta": said, "logprobs": None, "finish_reason": finish_reason}])

    yield delta(role="assistant", content="")
    for piece in _words(says.thoughts) if says.thoughts else ():
        yield delta(reasoning_content=piece)
    for piece in _words(says.text):
        yield delta(content=piece)
    for index, (id, name, given) in enumerate(says.arguments):
        call = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
        yield delta(tool_calls=[call])
        for start in range(0, len(given), 8):
            yield delta(tool_calls=[{"index": index, "function": {"arguments": given[start : start + 8]}}])
    yield delta(says.finish_reason)
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event([], usage=_openai_usage(says))
    yield "data: [DONE]\n\n"


def _anthropic(says: Says, body: dict[str, Any], number: int) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": says.text}]
    if says.thoughts:
        content.insert(0, {"type": "thinking", "thinking": says.thoughts, "signature": SIGNATURE})
    content += [
        {"type": "tool_use", "id": id, "name": name, "input": json.loads(given)} for id, name, given in says.arguments
    ]
    return {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": says.model or body["model"],
        "content": content, "stop_reason": _stop_reason(says), "stop_sequence": None, "usage": _anthropic_usage(says),
    }  # fmt: skip


def _stop_reason(says: Says) -> str:
    return "tool_use" if says.calls else {"stop": "end_turn", "length": "max_tokens"}[says.finish_reason]


def _anthropic_usage(says: Says) -> dict[str, Any]:
    """Anthropic counts what it read from its cache and put there beside the other tokens, not among them."""
    return {
        "input_tokens": says.prompt_tokens - says.cached_tokens - says.newly_cached_tokens,
        "cache_read_input_tokens": says.cached_tokens,
        "cache_creation_input_tokens": says.newly_cached_tokens,
        "output_tokens": says.completion_tokens,
    }


def _anthropic_stream(says: Says, body: dict[str, Any], number: int) -> Iterator[str]:
    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    started = {**_anthropic(says, body, number), "content": [], "stop_reason": None}
    yield event("message_start", message={**started, "usage": {**_anthropic_usage(says), "output_tokens": 1}})
    place = 0
    if says.thoughts:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield event("content_block_start", index=0, content_block=block)
        for piece in _words(says.thoughts):
            yield event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": piece})
        yield event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": SIGNATURE})
        yield event("content_block_stop", index=0)
        place = 1
    yield event("content_block_start", index=place, content_block={"type": "text", "text": ""})
    for piece in _words(says.text):
        yield event("content_block_delta", index=place, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=place)
    for index, (id, name, given) in enumerate(says.arguments, start=place + 1):
        block = {"type": "tool_use", "id": id, "name": name, "input": {}}
        yield event("content_block_start", index=index, content_block=block)
        yield event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": given})
        yield event("content_block_stop", index=index)
    ended = {"stop_reason": _stop_reason(says), "stop_sequence": None}
    yield event("message_delta", delta=ended, usage={"output_tokens": says.completion_tokens})
    yield event("message_stop")


def _ollama(says: Says, body: dict[str, Any], text: str, *, done: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if says.calls and done:
        message["tool_calls"] = [
            {"function": {"name": name, "arguments": json.loads(given)}} for _, name, given in says.arguments
        ]
    whole = {"model": says.model or body["model"], "created_at": "2026-01-01T00:00:00Z", "message": message}
    if not done:
        return {**whole, "done": False}
    return {
        **whole, "done": True, "done_reason": says.finish_reason, "total_duration": 1, "load_duration": 1,
        "prompt_eval_count": says.prompt_tokens, "prompt_eval_duration": 1,
        "eval_count": says.completion_tokens, "eval_duration": 1,
    }  # fmt: skip


def _ollama_stream(says: Says, body: dict[str, Any]) -> Iterator[str]:
    for piece in _words(says.text):
        yield json.dumps(_ollama(says, body, piece, done=False)) + "\n"
    yield json.dumps(_ollama(says, body, "", done=True)) + "\n"
