"""A local stand-in for a model server, answered by a script: OpenAI's chat completions, Anthropic's and Ollama's."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from tests.servers.chat_wires import Fault, Says, Stream, answer_of, error_of, stream_of

__all__ = ["ChatServer", "Fault", "HangUp", "Reply", "Request", "Says", "Stream", "busy", "nobody", "openai_chat"]


@dataclass(frozen=True)
class HangUp:
    """The connection is closed without an answer."""


Reply = Says | Stream | Fault | HangUp

WRONG_KEY = Fault(401, "Incorrect API key provided: sk-wrong. You can find your API key at …", code="invalid_api_key")
NO_SUCH_MODEL = Fault(404, "The model `nobody` does not exist or you do not have access to it.", code="model_not_found")
NO_QUOTA = Fault(
    429, "You exceeded your current quota, please check your plan and billing details.",
    code="insufficient_quota", type="insufficient_quota", headers={"x-should-retry": "false"},
)  # fmt: skip
NO_RESPONSE_FORMAT = Fault(400, "'response_format' of type 'json_schema' is not supported by this server")
OVERLOADED = Fault(500, "The server had an error while processing your request", type="server_error")

NO_TOOLS = {
    "ollama": Fault(400, "registry.ollama.ai/library/tiny:latest does not support tools", type="api_error"),
    "vllm": Fault(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    "llama.cpp": Fault(500, "tools param requires --jinja flag", type="server_error"),
    "llama.cpp of 2024": Fault(500, "Unsupported param: tools", type="server_error"),
    "openrouter": Fault(404, "No endpoints found that support tool use."),
    "openai": Fault(400, "Unsupported parameter: 'tools' is not supported with this model."),
}
"""How servers refuse tools."""
NO_TOOL_CHOICE = {
    "deepseek": Fault(400, "deepseek-reasoner does not support this tool_choice"),
    "openai-like": Fault(400, "tool_choice 'required' is not supported by this server"),
    "openrouter": Fault(404, "No endpoints found that support the provided 'tool_choice' value."),
}
"""How servers refuse to be told that a tool has to be called."""
NO_EFFORT = Fault(
    400, "Unsupported parameter: 'reasoning_effort' is not supported with this model.", code="unsupported_parameter"
)
TOO_LONG = {
    "openai": Fault(
        400, "Your input exceeds the context window of this model. Please adjust your input and try again.",
        code="context_length_exceeded",
    ),
    "vllm": Fault(
        400, "This model's maximum context length is 4096 tokens. However, your request has 9000 input tokens. "
        "Please reduce the length of the input messages.", type="BadRequestError",
    ),
    "vllm's prompt": Fault(400, "The decoder prompt (length 9000) is longer than the maximum model length of 4096."),
    "sglang": Fault(400, "The input (9000 tokens) is longer than the model's context length (4096 tokens)."),
    "llama.cpp": Fault(
        400, "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        type="exceed_context_size_error",
    ),
    "llama.cpp of 2025": Fault(
        500, "the request exceeds the available context size. try increasing the context size or enable context shift",
        type="exceed_context_size_error",
    ),
    "llama.cpp while it answers": Fault(500, "Context size has been exceeded.", type="server_error"),
    "lm studio": Fault(
        400, "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with "
        "context length of only 4096 tokens, which is not enough.",
    ),
    "llama-cpp-python": Fault(400, "Requested tokens (9000) exceed context window of 4096"),
    "tgi": Fault(422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096.", type="validation"),
    "mistral": Fault(400, "Prompt contains 9000 tokens and 0 draft tokens, too large for model with 4096 maximum"),
    "anthropic": Fault(400, "prompt is too long: 209000 tokens > 200000 maximum"),
    "bedrock": Fault(400, "Input is too long for requested model."),
    "groq": Fault(413, "Please reduce the length of the messages or completion.", code="context_length_exceeded"),
}  # fmt: skip
"""How servers say that a request is longer than a model can read."""


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
CHAT = ("/v1/chat/completions", "/v1/messages", "/api/chat")
"""Where a chat is asked for; no other path has an answer."""


@dataclass
class ChatServer:
    """A running server: where it is, and what it was asked."""

    base_url: str
    """What `api_base` is set to."""
    requests: list[Request] = field(default_factory=list)
    """Of chats."""
    looked_up: list[Request] = field(default_factory=list)
    """Questions about the server itself."""

    @property
    def root(self) -> str:
        """Without `/v1`: what `api_base` is set to for Anthropic and Ollama."""
        return self.base_url.removesuffix("/v1")


@contextmanager
def openai_chat(script: Script, about: Mapping[str, Any] | None = None) -> Iterator[ChatServer]:
    """Serves chats on a free port of the loopback interface until the block ends.

    about: path → what the server says of itself there; without it, that path does not exist.
    """
    replies = iter(()) if callable(script) else itertools.chain(script, itertools.repeat(script[-1]))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else every answer waits 40 ms for the client's acknowledgement of its headers

        def do_GET(self) -> None:
            self._tell(self._read(""))

        def do_POST(self) -> None:
            request = self._read(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if self.path in (about or {}) or self.path == "/api/show":
                self._tell(request)
                return
            with lock:
                served.requests.append(request)
                number = len(served.requests)
                scripted = None if callable(script) else next(replies)
            # Not under the lock: a script may keep a client waiting.
            reply = script(request) if callable(script) else cast(Reply, scripted)
            if self.path not in CHAT:
                reply = Fault(404, f"Invalid URL (POST {self.path})")
            with suppress(BrokenPipeError, ConnectionResetError):  # the client was killed while it waited
                self._answer(reply, request, number)

        def _read(self, raw: str) -> Request:
            headers = {name.lower(): value for name, value in self.headers.items()}
            return Request(self.path, headers, json.loads(raw or "{}"), raw)

        def _tell(self, request: Request) -> None:
            """What the server says of itself."""
            served.looked_up.append(request)
            known = (about or {}).get(self.path)
            if known is None:
                self._send(404, error_of(Fault(404, f"Invalid URL ({self.command} {self.path})"), self.path))
            else:
                self._send(200, known)

        def _answer(self, reply: Reply, request: Request, number: int) -> None:
            if isinstance(reply, HangUp):
                self.close_connection = True
                return
            if isinstance(reply, Fault):
                self._send(reply.status, error_of(reply, self.path), reply.headers)
                return
            if isinstance(reply, Stream):
                self._write("text/event-stream", reply.pieces, reply.pause)
                return
            time.sleep(reply.pause)
            if request.body.get("stream"):
                self._stream(reply, request, number)
                return
            answer = answer_of(reply, self.path, request.body, number)
            self._send(200, answer, broken=bool(reply.drop))

        def _send(
            self, status: int, body: Any, headers: Mapping[str, str] | None = None, *, broken: bool = False
        ) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self._close()
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if broken else content)

        def _stream(self, reply: Says, request: Request, number: int) -> None:
            kind, stream = stream_of(reply, self.path, request.body, number)
            pieces = list(stream)
            # In the middle of what is said: the last three pieces at most say how it ended.
            said = pieces[: max(1, len(pieces) // 2 - 1)] if reply.drop else pieces
            self._write(kind, said, broken=reply.drop == "broken")

        def _write(self, kind: str, pieces: Sequence[str], pause: float = 0.0, *, broken: bool = False) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
            self._close()
            self.end_headers()
            for piece in pieces:
                data = piece.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                time.sleep(pause)
            if not broken:
                self.wfile.write(b"0\r\n\r\n")

        def _close(self) -> None:
            """After every answer: LiteLLM forgets its clients after 200 addresses, with what they have open."""
            self.send_header("Connection", "close")
            self.close_connection = True

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
