"""A local stand-in for the services that know papers: Hugging Face's paper pages, Semantic Scholar, arXiv and ar5iv.

All are at one address, each under its own paths; a second address stands for a host that no token belongs to.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.servers import literature_pages as pages
from tests.servers.literature_pages import GRPO, PUBLISHED, RECIPES


@dataclass(frozen=True)
class Sends:
    """An answer."""

    content: Any
    """Bytes or text as they are; any other value as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    after: float = 0.0
    """Seconds before it is sent."""
    cut: int = 0
    """Bytes at the end that are announced and never sent: the connection breaks."""
    between: float = 0.0
    """Seconds between one byte and the next."""

    @property
    def body(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        return (self.content if isinstance(self.content, str) else json.dumps(self.content)).encode()


NOT_THERE = Sends({"error": "Requested object not found"}, 404)


def busy(seconds: float | str = "") -> Sends:
    """A rate limit; `seconds` go into Retry-After."""
    return Sends({"message": "Too Many Requests"}, 429, {"Retry-After": str(seconds)} if seconds != "" else {})


def leads_to(address: str, status: int = 302) -> Sends:
    """A redirect."""
    return Sends(b"", status, {"Location": address})


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    at: float
    """Seconds of the monotonic clock."""

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Literature:
    """The running services: where they are, what they were asked, and what befalls them."""

    url: str = ""
    elsewhere: str = ""
    """Another origin, which answers every request with a page, and lets nobody through as a proxy."""
    requests: list[Request] = field(default_factory=list)
    led_away: list[Request] = field(default_factory=list)
    """That came to the other origin."""
    texts: dict[str, Sends] = field(default_factory=dict)
    """Path → page: the papers' texts, under /html, /ar5iv/html and /pdf, and whatever else a test puts here."""
    citing: int = 9
    """How many papers cite GRPO."""
    _troubles: list[tuple[re.Pattern[str], Sends, int]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a client ask here."""
        return {
            "HF_ENDPOINT": self.url, "POSTGRAD_SEMANTIC_SCHOLAR": self.url, "POSTGRAD_ARXIV": self.url,
            "POSTGRAD_AR5IV": f"{self.url}/ar5iv",
        }  # fmt: skip

    def point_client_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every client of this test asks here, with no key and no proxy of a person's."""
        for name in (
            "S2_API_KEY",
            "SEMANTIC_SCHOLAR_API_KEY",
            "GITHUB_TOKEN",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "ALL_PROXY",
        ):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def asked(self, pattern: str) -> list[Request]:
        """The requests whose `METHOD /path` matches."""
        return [request for request in self.requests if re.search(pattern, request.line)]

    def trouble(self, pattern: str, answer: Sends, times: int = 1) -> None:
        """What the next `times` requests whose `METHOD /path` matches are answered with; -1: all of them."""
        self._troubles.append((re.compile(pattern), answer, times))

    def calm(self) -> None:
        """No more trouble."""
        self._troubles.clear()

    def answer(self, request: Request) -> Sends:
        for position, (pattern, answer, times) in enumerate(self._troubles):
            if times and pattern.search(request.line):
                self._troubles[position] = (pattern, answer, times - 1)
                return answer
        if request.path in self.texts:
            return self.texts[request.path]
        return self._route(request)

    def _route(self, request: Request) -> Sends:
        path, query = request.path, request.query
        if path == "/api/query":
            return Sends(pages.atom(_matching(query)), media_type="application/atom+xml")
        if path == "/api/papers/search":
            return Sends([pages.hub_found(GRPO), pages.hub_found(RECIPES)][: int(query.get("limit", "120"))])
        if match := re.fullmatch(r"/api/papers/(.+)", path):
            return Sends(pages.hub_page(match[1])) if match[1] == GRPO else NOT_THERE
        if path == "/graph/v1/paper/search":
            found = [pages.scholar_paper(name) for name in (RECIPES, GRPO, PUBLISHED)][: int(query["limit"])]
            return Sends({"total": 3, "offset": 0, "data": found})
        if path == "/graph/v1/snippet/search":
            return Sends({"data": [pages.snippet(GRPO)], "retrievalVersion": "pa1-v1"})
        if match := re.fullmatch(r"/graph/v1/paper/(?:ARXIV:|DOI:)?(.+?)(/citations|/references)?", path):
            return self._graph(match[1], match[2] or "", query)
        return NOT_THERE

    def _graph(self, name: str, way: str, query: Mapping[str, str]) -> Sends:
        name = next((known for known, sha in pages.SHA.items() if name in (known, sha)), "")
        if not name:
            return NOT_THERE
        if not way:
            return Sends(pages.scholar_paper(name))
        rows = pages.citing_rows(self.citing) if way == "/citations" else pages.cited_rows()
        offset, limit = int(query.get("offset", "0")), int(query.get("limit", "100"))
        more = {"next": offset + limit} if offset + limit < len(rows) else {}
        return Sends({"offset": offset, "data": rows[offset : offset + limit], **more})


def _matching(query: Mapping[str, str]) -> list[str]:
    """The ids of arXiv's answer: those asked for by id, or by words, all of which (or, with OR, one) are in them."""
    known = [GRPO, RECIPES]
    if names := query.get("id_list"):
        return [name for name in known if name in names]
    wanted = re.findall(r"all:(\S+)", query["search_query"].lower())
    every = any if " OR " in query["search_query"] else all
    texts = {name: f"{pages.TITLES[name]} {pages.ABSTRACTS[name]}".lower() for name in known}
    return [name for name in known if every(word in texts[name] for word in wanted)]


@contextmanager
def literature() -> Iterator[Literature]:
    """Serves on two free ports of the loopback interface until the block ends."""
    served = Literature()
    lock = threading.Lock()

    def here(request: Request) -> Sends:
        with lock:
            served.requests.append(request)
            return served.answer(request)

    def away(request: Request) -> Sends:
        with lock:
            served.led_away.append(request)
        if request.method == "CONNECT":
            return Sends("no", 403)
        return Sends("<p>elsewhere</p>", media_type="text/html")

    with _serving(here) as served.url, _serving(away) as served.elsewhere:
        html = Sends(pages.PAPER_HTML, media_type="text/html; charset=utf-8")
        served.texts = {f"/html/{GRPO}": html, f"/ar5iv/html/{GRPO}": html}
        yield served


@contextmanager
def _serving(answer: Callable[[Request], Sends]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            at = time.monotonic()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            sends = answer(Request(self.command, unquote(url.path), query, headers, body, at))
            time.sleep(sends.after)
            with suppress(ConnectionError):
                self.send_response(sends.status)
                for name, value in {"Content-Type": sends.media_type, **sends.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(sends.body)))
                self.end_headers()
                body = sends.body[: len(sends.body) - sends.cut]
                for piece in map(bytes, zip(body, strict=True)) if sends.between else [body]:
                    self.wfile.write(piece)
                    time.sleep(sends.between)
                self.close_connection = self.close_connection or bool(sends.cut)

        def handle(self) -> None:
            """A client may go while its connection is kept."""
            with suppress(ConnectionError):
                super().handle()

        do_GET = do_POST = do_CONNECT = _serve  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
