"""Local stand-ins for what people look up: GitHub's API and raw files, Hugging Face documentation, pages of the web."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.servers.hub import Request
from tests.servers.hub_routes import Answer

NOT_FOUND = (404, b'{"message": "Not Found"}', "application/json")


@dataclass(frozen=True)
class Asked:
    """What a client asked for."""

    site: str
    """`hub`, `api` or `raw`: each is an origin of its own."""
    path: str
    query: dict[str, list[str]]
    token: str


@dataclass
class Sites:
    """Running servers: what they hold, and what they were asked."""

    url: str = ""
    """Of the hub, where documentation and pages are."""
    pages: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """Path → content and media type."""
    repos: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    """`owner/name` → commit → path → text."""
    refs: dict[tuple[str, str], str] = field(default_factory=dict)
    """(`owner/name`, branch or tag) → commit."""
    docs_found: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """Package → what the search in its documentation finds."""
    asked: list[Asked] = field(default_factory=list)

    def add_page(self, path: str, text: str | bytes, media_type: str = "text/html") -> str:
        self.pages[path] = (text.encode() if isinstance(text, str) else text, media_type)
        return f"{self.url}{path}"

    def push(self, repo: str, files: Mapping[str, str], ref: str = "HEAD") -> str:
        """A commit of a repository on GitHub; its sha."""
        sha = hashlib.sha1(json.dumps([repo, sorted(files.items())]).encode()).hexdigest()
        self.repos.setdefault(repo, {})[sha] = dict(files)
        self.refs[repo, ref] = sha
        return sha

    def add_docs(self, package: str, pages: Mapping[str, str], version: str = "") -> None:
        """Pages of documentation: name → Markdown; those without a version are the newest, which are listed too."""
        root = f"/docs/{package}/{version}/en" if version else f"/docs/{package}"
        lines = [f"# {package.title()}", "", "## Docs", ""]
        for name, text in pages.items():
            self.add_page(f"{root}/{name}.md", text, "text/markdown")
            title = text.splitlines()[0].lstrip("# ")
            lines.append(f"- [{title}](https://huggingface.co/docs/{package}/main/{name}.md)")
        if not version:
            self.add_page(f"{root}/llms.txt", "\n".join(lines), "text/plain")

    def answer(self, asked: Asked) -> tuple[int, bytes, str]:
        where = asked.path.strip("/").split("/")
        if asked.site == "api":
            return self._search(asked) if asked.path == "/search/code" else self._github(where)
        if asked.site == "raw":
            text = self.repos.get("/".join(where[:2]), {}).get(where[2], {}).get("/".join(where[3:]))
            return NOT_FOUND if text is None else (200, text.encode(), "text/plain")
        if asked.path == "/api/docs/search":
            return _json(self.docs_found.get(asked.query.get("product", [""])[0], []))
        return (200, *self.pages[asked.path]) if asked.path in self.pages else NOT_FOUND

    def _github(self, where: Sequence[str]) -> tuple[int, bytes, str]:
        repo, rest = "/".join(where[1:3]), where[3:]
        if rest[:1] == ["commits"]:
            sha = self.refs.get((repo, "/".join(rest[1:])))
            return _json({"sha": sha}) if sha else NOT_FOUND
        files = self.repos.get(repo, {}).get(rest[-1]) if rest[:2] == ["git", "trees"] else None
        if files is None:
            return NOT_FOUND
        folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
        tree: list[dict[str, Any]] = [{"path": folder, "type": "tree", "mode": "040000"} for folder in sorted(folders)]
        tree += [{"path": path, "type": "blob", "size": len(text.encode())} for path, text in sorted(files.items())]
        return _json({"sha": rest[-1], "tree": tree, "truncated": False})

    def _search(self, asked: Asked) -> tuple[int, bytes, str]:
        if not asked.token:
            return 401, b'{"message": "Requires authentication"}', "application/json"
        words, _, repo = asked.query["q"][0].partition(" repo:")
        files = self.repos[repo][self.refs[repo, "HEAD"]]
        found = [path for path, text in files.items() if all(word in text for word in words.split())]
        return _json({"total_count": len(found), "items": [{"path": path} for path in found]})


def _json(value: Any) -> tuple[int, bytes, str]:
    return 200, json.dumps(value).encode(), "application/json"


@contextmanager
def reference_sites(patch: pytest.MonkeyPatch) -> Iterator[Sites]:
    """Serves on free ports of the loopback interface, and points the services' addresses there, until the end."""
    sites = Sites()
    with _serving(sites, "hub") as sites.url, _serving(sites, "api") as api, _serving(sites, "raw") as raw:
        patch.setenv("HF_ENDPOINT", sites.url)
        patch.setenv("POSTGRAD_GITHUB_API", api)
        patch.setenv("POSTGRAD_GITHUB_RAW", raw)
        yield sites


@contextmanager
def _serving(sites: Sites, site: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            asked = Asked(site, unquote(url.path), parse_qs(url.query), token)
            sites.asked.append(asked)
            status, content, media_type = sites.answer(asked)
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

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


def listing(kind: str, entries: Sequence[Mapping[str, Any]]) -> Callable[[Request], Answer | None]:
    """A service of the Hub's stand-in: `/api/models` or `/api/datasets`, filtered and sorted as the Hub does.

    Every entry is one repository as the API lists it: id, tags, pipeline_tag, downloads, likes, safetensors …
    """

    def answer(request: Request) -> Answer | None:
        if request.line != f"GET /api/{kind}":
            return None
        query = request.query
        found = [dict(entry) for entry in entries if _fits(entry, query)]
        found.sort(key=lambda entry: entry.get(query.get("sort", ["downloads"])[0], 0), reverse=True)
        return Answer(found[: int(query.get("limit", ["1000"])[0])])

    return answer


def _fits(entry: Mapping[str, Any], query: Mapping[str, list[str]]) -> bool:
    tags = {*entry.get("tags", ()), entry.get("pipeline_tag")}
    total = (entry.get("safetensors") or {}).get("total", 0)
    most = query.get("num_parameters", ["max:1000000B"])[0].removeprefix("max:").removesuffix("B")
    return (
        query.get("search", [""])[0].lower() in entry["id"].lower()
        and entry["id"].startswith(query.get("author", [""])[0])
        and set(query.get("filter", ())) <= tags
        and query.get("pipeline_tag", [entry.get("pipeline_tag")])[0] == entry.get("pipeline_tag")
        and total <= float(most) * 1e9
    )


def at(path: str, value: Any) -> Callable[[Request], Answer | None]:
    """A service of the Hub's stand-in that answers at one path."""
    return lambda request: Answer(value) if request.path == path else None
