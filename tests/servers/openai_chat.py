"""A local stand-in for a model server: OpenAI's chat completions over real HTTP, answered by a script."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


@dataclass(frozen=True)
class Says:
    """An answer: text, or a value that becomes JSON."""

    content: Any
    prompt_tokens: int = 100
    completion_tokens: int = 20
    finish_reason: str = "stop"
    model: str = ""
    """That the server says it was; empty names the one that was asked."""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Name and arguments of the tools that it calls."""


@dataclass(frozen=True)
class Fault:
    """An error in OpenAI's wire format."""

    status: int
    message: str = "it failed"
    code: str | None = None
    type: str = "invalid_request_error"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HangUp:
    """The connection is closed without an answer."""


Reply = Says | Fault | HangUp

WRONG_KEY = Fault(401, "Incorrect API key provided: sk-wrong. You can find your API key at …", code="invalid_api_key")
NO_SUCH_MODEL = Fault(404, "The model `nobody` does not exist or you do not have access to it.", code="model_not_found")
NO_QUOTA = Fault(
    429, "You exceeded your current quota, please check your plan and billing details.",
    code="insufficient_quota", type="insufficient_quota", headers={"x-should-retry": "false"},
)  # fmt: skip
NO_RESPONSE_FORMAT = Fault(400, "'response_format' of type 'json_schema' is not supported by this server")


def busy(seconds: float) -> Fault:
    """A rate limit that says when to come again."""
    return Fault(
        429, "Rate limit reached for requests", code="rate_limit_exceeded", type="requests",
        headers={"Retry-After": str(seconds)},
    )  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    raw: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self.body["messages"])

    @property
    def said(self) -> str:
        """All messages as one text."""
        return "\n".join(str(message["content"]) for message in self.messages)


Script = Sequence[Reply] | Callable[[Request], Reply]
"""Replies in order, the last one for every request after it; or a function of the request."""


@dataclass
class ChatServer:
    """A running server: where it is, and what it was asked."""

    base_url: str
    """What `api_base` is set to."""
    requests: list[Request] = field(default_factory=list)


@contextmanager
def openai_chat(script: Script) -> Iterator[ChatServer]:
    """Serves `POST {base_url}/chat/completions` on a free port of the loopback interface until the block ends."""
    replies = iter(()) if callable(script) else itertools.chain(script, itertools.repeat(script[-1]))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, json.loads(raw), raw)
            with lock:
                served.requests.append(request)
                number = len(served.requests)
                scripted = None if callable(script) else next(replies)
            # Not under the lock: a script may keep a client waiting.
            reply = script(request) if callable(script) else cast(Reply, scripted)
            if self.path != "/v1/chat/completions":
                reply = Fault(404, f"Invalid URL (POST {self.path})")
            if isinstance(reply, HangUp):
                self.close_connection = True
                return
            status, body = _wire(reply, request, number)
            with suppress(BrokenPipeError, ConnectionResetError):  # the client was killed while it waited
                self._send(status, body, reply.headers if isinstance(reply, Fault) else {})

        def _send(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Tests say what they need to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = ChatServer(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def nobody() -> str:
    """An `api_base` where no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def _wire(reply: Says | Fault, request: Request, number: int) -> tuple[int, dict[str, Any]]:
    if isinstance(reply, Fault):
        error = {"message": reply.message, "type": reply.type, "param": None, "code": reply.code}
        return reply.status, {"error": error}
    text = reply.content if isinstance(reply.content, str) else json.dumps(reply.content)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if reply.calls:
        message["tool_calls"] = [
            {"id": f"call-{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for place, (name, arguments) in enumerate(reply.calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    usage = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }
    return 200, {
        "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_700_000_000,
        "model": reply.model or request.body["model"], "choices": [choice], "usage": usage,
    }  # fmt: skip
