"""A local stand-in for the Hugging Face Hub: its HTTP API as the real `huggingface_hub` client speaks it.

Repositories, commits, LFS, downloads, private and gated data sets and the data set viewer are here; files in LFS come
from a second address, as the Hub's come from a CDN. What it does not know it answers with 404.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.servers.hub_repos import CONVERTED, Blob, Repo, goes_to_lfs
from tests.servers.hub_routes import Answer, Routes

TOKEN = "hf_AnnasOwnToken0123456789"
"""Of `anna`, who every server knows."""


@dataclass(frozen=True)
class Fails:
    """An answer of an error status."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    afterwards: bool = False
    """Whether the request has been carried out all the same."""

    @property
    def answer(self) -> Answer:
        return Answer({"error": "it failed"}, self.status, self.headers)


@dataclass(frozen=True)
class DiesAfter:
    """The request is carried out; of the answer's body so many bytes are sent, then the connection is closed."""

    sent: int
    reset: bool = False
    """Whether the client's next read is an error instead of an end."""


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    host: Literal["hub", "cdn"]
    method: str
    path: str
    """Without the query, unquoted."""
    query: dict[str, list[str]]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def token(self) -> str:
        """That it carried; empty without one."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass
class HubServer:
    """A running Hub: where it is, what it holds, what it was asked."""

    endpoint: str
    cdn: str
    """Where files in LFS come from and go to: another origin, that no token belongs to."""
    users: dict[str, str] = field(default_factory=lambda: {TOKEN: "anna"})
    """Token → user."""
    orgs: dict[str, frozenset[str]] = field(default_factory=dict)
    """Organisation → its members, who may write there."""
    services: list[Callable[[Request], Answer | None]] = field(default_factory=list)
    """What else answers at this endpoint, asked first; None where it is not theirs."""
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    """(kind, id) → repository."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """sha256 → what was uploaded to LFS."""
    requests: list[Request] = field(default_factory=list)
    afterwards: Callable[[Request], None] = lambda request: None
    """Called when a request has been carried out, before it is answered."""
    _troubles: list[tuple[re.Pattern[str], Fails | DiesAfter, int]] = field(default_factory=list)

    @property
    def viewer(self) -> str:
        """Base of the data set viewer's endpoints."""
        return f"{self.endpoint}/viewer"

    def add(self, repo_id: str, files: Mapping[str, bytes | str], **options: Any) -> Repo:
        """A data set with one commit of `files`; `options` are Repo's."""
        repo = Repo(repo_id, **options)
        self.repos[repo.kind, repo_id] = repo
        self.push(repo, files)
        return repo

    def push(self, repo: Repo, files: Mapping[str, bytes | str], ref: str = "main") -> str:
        """Another commit of a repository; its sha. On CONVERTED it is what the viewer would have written."""
        contents = {path: file.encode() if isinstance(file, str) else file for path, file in files.items()}
        blobs = {path: Blob(content, goes_to_lfs(path, len(content))) for path, content in contents.items()}
        self.objects |= {blob.sha256: blob.content for blob in blobs.values() if blob.lfs}
        return repo.commit(blobs, ref=ref, title="Update parquet files" if ref == CONVERTED else "upload").oid

    def dataset(self, repo_id: str) -> Repo:
        return self.repos["datasets", repo_id]

    def trouble(self, line: str, what: Fails | DiesAfter, times: int = 1) -> None:
        """What befalls the next `times` requests whose `METHOD /path` matches the pattern `line`."""
        self._troubles.append((re.compile(line), what, times))

    def calm(self) -> None:
        """No more trouble."""
        self._troubles.clear()

    def befalls(self, request: Request) -> Fails | DiesAfter | None:
        for position, (pattern, what, times) in enumerate(self._troubles):
            if times and pattern.search(request.line):
                self._troubles[position] = (pattern, what, times - 1)
                return what
        return None

    def asked(self, pattern: str) -> list[Request]:
        """The requests whose `METHOD /path` matches."""
        return [request for request in self.requests if re.search(pattern, request.line)]


@contextmanager
def hub() -> Iterator[HubServer]:
    """Serves on two free ports of the loopback interface until the block ends."""
    served = HubServer("", "")
    lock = threading.Lock()
    routes = Routes(served)
    with (
        _serving(lambda request: _answer(served, lock, request, routes.hub), "hub") as endpoint,
        _serving(lambda request: _answer(served, lock, request, routes.cdn), "cdn") as cdn,
    ):
        served.endpoint, served.cdn = endpoint, cdn
        yield served


def _answer(
    served: HubServer, lock: threading.Lock, request: Request, route: Callable[[Request], Answer]
) -> tuple[Answer, DiesAfter | None]:
    with lock:
        served.requests.append(request)
        what = served.befalls(request)
        if isinstance(what, Fails) and not what.afterwards:
            return what.answer, None
        answer = next(filter(None, (service(request) for service in served.services)), None) or route(request)
        served.afterwards(request)
        return (what.answer, None) if isinstance(what, Fails) else (answer, what)


@contextmanager
def _serving(
    answer: Callable[[Request], tuple[Answer, DiesAfter | None]], host: Literal["hub", "cdn"]
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(host, self.command, unquote(url.path), parse_qs(url.query), headers, body)
            self._send(*answer(request))

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

        def _send(self, answer: Answer, dies: DiesAfter | None) -> None:
            if isinstance(answer.content, Iterator):
                self._stream(answer, dies)
                return
            status, content, headers = answer.ranged(self.headers.get("Range"))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content if dies is None else content[: dies.sent])
            if dies is not None:
                self._die(dies)

        def _stream(self, answer: Answer, dies: DiesAfter | None) -> None:
            """Server-sent events as they come, until their end or the client's; `dies` counts their bytes."""
            self.send_response(answer.status)
            for name, value in ({"Transfer-Encoding": "chunked"} | dict(answer.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            left = dies.sent if dies else None
            with suppress(ConnectionError):
                for piece in answer.content:
                    part = piece if left is None else piece[:left]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if part else b"")
                    self.wfile.flush()
                    left = None if left is None else left - len(part)
                    if dies is not None and not left:
                        self._die(dies)
                        return
                self.wfile.write(b"0\r\n\r\n")

        def _die(self, dies: DiesAfter) -> None:
            self.close_connection = True
            self.wfile.flush()
            if dies.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:
            """Tests say what they need to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_client_at(server: HubServer, patch: pytest.MonkeyPatch, home: Path, token: str = TOKEN) -> None:
    """Makes this process's `huggingface_hub` a client of `server`, with caches in `home`.

    The client reads its environment when it is imported, which other tests have done before; a process that a test
    starts takes the same from `client_environment`.
    """
    from huggingface_hub import constants

    for name, value in client_environment(server, home, token).items():
        patch.setenv(name, value)
    values = {
        "ENDPOINT": server.endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(
            constants.ENDPOINT, server.endpoint
        ),
        "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"), "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"), "AGENT_HARNESSES_PATH": str(home / "harnesses.json"),
        "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True,
    }  # fmt: skip
    for name, constant in values.items():
        patch.setattr(constants, name, constant)


def client_environment(server: HubServer, home: Path, token: str = TOKEN) -> dict[str, str]:
    """Environment variables for a process that is to be a client of `server`."""
    return {
        "HF_ENDPOINT": server.endpoint, "HF_HOME": str(home), "HF_TOKEN": token, "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
