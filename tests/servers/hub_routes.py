"""What the Hub's stand-in answers: one method for each endpoint of the HTTP API."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, quote

import yaml

from tests.servers.hub_repos import Blob, Commit, Repo, entry_of, folders_of, front_matter, goes_to_lfs
from tests.servers.hub_viewer import VIEWS, viewed

if TYPE_CHECKING:
    from tests.servers.hub import HubServer, Request

PAGE = 1000
"""Entries in a page of a tree; the next one is in the `Link` header."""


@dataclass(frozen=True)
class Answer:
    """A response; plain data becomes JSON."""

    content: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def ranged(self, asked: str | None) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers, cut to the range `bytes=N-[M]` that was asked for."""
        if not isinstance(self.content, bytes):
            return self.status, json.dumps(self.content).encode(), {"Content-Type": "application/json", **self.headers}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        if span is None or self.status != 200:
            return self.status, self.content, dict(self.headers)
        start, total = int(span[1]), len(self.content)
        part = self.content[start : int(span[2]) + 1 if span[2] else None]
        return 206, part, dict(self.headers) | {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{total}"}


class _Refused(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
        self.answer = Answer({"error": message}, status, headers)


NOT_FOUND = Answer({"error": "Not Found"}, 404)
NAME = r"(?P<id>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>datasets|models)/{NAME}"


class Routes:
    """Answers requests to a server; the caller holds its lock."""

    def __init__(self, server: HubServer) -> None:
        self._server = server
        self._hub: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", r"/api/whoami-v2", self._whoami),
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", self._validate_yaml),
            ("GET", rf"{API}(?:/revision/(?P<revision>.+))?", self._info),
            ("GET", rf"{API}/tree/(?P<revision>refs/[^/]+/[^/]+|[^/]+)(?:/(?P<path>.+))?", self._tree),
            ("POST", rf"{API}/paths-info/(?P<revision>.+)", self._paths_info),
            ("GET", rf"{API}/refs", self._refs),
            ("GET", rf"{API}/auth-check(?P<write>/write)?", self._auth_check),
            ("GET", rf"{API}/commits/(?P<revision>.+)", self._commits),
            ("POST", rf"{API}/preupload/(?P<revision>.+)", self._preupload),
            ("POST", rf"{API}/commit/(?P<revision>.+)", self._commit),
            ("POST", rf"/(?:(?P<kind>datasets)/)?{NAME}\.git/info/lfs/objects/batch", self._lfs_batch),
            ("POST", rf"/(?:(?P<kind>datasets)/)?{NAME}\.git/info/lfs/verify", self._lfs_verify),
            ("GET", r"/viewer/(?P<view>.+)", self._view),
            (
                "GET",
                rf"/(?:(?P<kind>datasets)/)?{NAME}/resolve/(?P<revision>refs/[^/]+/[^/]+|[^/]+)/(?P<path>.+)",
                self._resolve,
            ),
        ]

    def hub(self, request: Request) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        for verb, pattern, answer in self._hub:
            match = re.fullmatch(pattern, request.path)
            if verb == method and match:
                try:
                    return answer(request, **match.groupdict())
                except _Refused as refused:
                    return refused.answer
        return NOT_FOUND

    def cdn(self, request: Request) -> Answer:
        """Signed addresses: whoever has one gets, or puts, the object."""
        sha256 = request.path.rpartition("/")[2]
        if request.method == "PUT":
            if hashlib.sha256(request.body).hexdigest() != sha256:  # the client died on the way
                return Answer({"error": "not what its name says"}, 400)
            self._server.objects[sha256] = request.body
            return Answer()
        content = self._server.objects.get(sha256)
        return NOT_FOUND if content is None else Answer(content, headers={"ETag": f'"{sha256}"'})

    def _user(self, request: Request) -> str:
        user = self._server.users.get(request.token, "")
        if request.token and not user:
            raise _Refused(401, "", "Invalid credentials in Authorization header")
        return user

    def _repo(self, request: Request, kind: str | None, repo_id: str) -> Repo:
        """The repository, where the one who asks may know of it."""
        user = self._user(request)
        repo = self._server.repos.get((kind or "models", repo_id))
        if repo is None or (repo.private and not self._is_of(user, repo.owner) and user not in repo.readers):
            # The Hub does not tell those who are not logged in whether a repository exists.
            raise _Refused(404 if user else 401, "RepoNotFound", "Repository not found")
        return repo

    def _writable(self, request: Request, kind: str | None, repo_id: str) -> Repo:
        repo = self._repo(request, kind, repo_id)
        if not self._is_of(self._user(request), repo.owner):
            raise _Refused(403, "", "Forbidden: you must have write access")
        return repo

    def _is_of(self, user: str, owner: str) -> bool:
        """Whether a user may do what the owner of a repository may: being it, or a member of it."""
        return user == owner or user in self._server.orgs.get(owner, frozenset())

    def _require_terms(self, request: Request, repo: Repo) -> None:
        """Refuses whoever has not been given access to a gated repository."""
        user = self._user(request)
        if repo.gated and user not in {repo.owner, *repo.readers}:
            url = f"{self._server.endpoint}/{'' if repo.kind == 'models' else f'{repo.kind}/'}{repo.id}"
            why = "ask for access" if user else "you must have access to it and be authenticated to access it"
            what = f"Access to {repo.id} is restricted. Visit {url} to {why}."
            raise _Refused(403 if user else 401, "GatedRepo", what)

    def _at(self, repo: Repo, revision: str | None) -> Commit:
        commit = repo.at(revision or "main")
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _auth_check(self, request: Request, kind: str, id: str, write: str | None) -> Answer:
        repo = self._writable(request, kind, id) if write else self._repo(request, kind, id)
        self._require_terms(request, repo)
        return Answer({})

    def _whoami(self, request: Request) -> Answer:
        user = self._user(request)
        if not user:
            raise _Refused(401, "", "Invalid username or password.")
        return Answer({"type": "user", "name": user, "orgs": [], "auth": {"type": "access_token"}})

    def _create(self, request: Request) -> Answer:
        asked = json.loads(request.body)
        user = self._user(request)
        owner = asked.get("organization") or user
        if not user:
            raise _Refused(401, "", "Invalid username or password.")
        if not self._is_of(user, owner):
            raise _Refused(403, "", f"You don't have the rights to create a repository under {owner}")
        key = f"{asked.get('type', 'model')}s", f"{owner}/{asked['name']}"
        url = f"{self._server.endpoint}/{'datasets/' if key[0] == 'datasets' else ''}{key[1]}"
        if key in self._server.repos:
            return Answer({"error": "You already created this repo", "url": url}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        repo = Repo(key[1], cast(Any, key[0]), private=private)
        repo.commit({".gitattributes": Blob(b"*.parquet filter=lfs diff=lfs merge=lfs -text\n", False)}, title="init")
        self._server.repos[key] = repo
        return Answer({"url": url, "id": "0", "name": key[1]})

    def _validate_yaml(self, request: Request) -> Answer:
        try:
            front_matter(json.loads(request.body)["content"].encode())
        except yaml.YAMLError as error:
            return Answer({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return Answer({"errors": [], "warnings": []})

    def _info(self, request: Request, kind: str, id: str, revision: str | None) -> Answer:
        repo = self._repo(request, kind, id)
        return Answer(repo.info(self._at(repo, revision)))

    def _tree(self, request: Request, kind: str, id: str, revision: str, path: str | None) -> Answer:
        repo = self._repo(request, kind, id)
        prefix = f"{path}/" if path else ""
        files = self._at(repo, revision).files
        listed = sorted([*files, *folders_of(files)])
        entries = [entry_of(files, name) for name in listed if name.startswith(prefix)]
        if request.query.get("recursive", ["false"])[0].lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]
        start = int(request.query.get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(entries):
            url = f"{self._server.endpoint}{quote(request.path)}?recursive=True&cursor={start + PAGE}"
            headers["Link"] = f'<{url}>; rel="next"'
        return Answer(entries[start : start + PAGE], headers=headers)

    def _paths_info(self, request: Request, kind: str, id: str, revision: str) -> Answer:
        files = self._at(self._repo(request, kind, id), revision).files
        paths = parse_qs(request.body.decode()).get("paths", [])
        known = {*files, *folders_of(files)}
        return Answer([entry_of(files, path) for path in paths if path in known])

    def _refs(self, request: Request, kind: str, id: str) -> Answer:
        refs = self._repo(request, kind, id).refs
        shown = {
            name: {"name": name.rpartition("/")[2], "ref": name, "targetCommit": oid} for name, oid in refs.items()
        }
        converts = [ref for name, ref in shown.items() if name.startswith("refs/convert/")]
        branches = [ref | {"ref": f"refs/heads/{name}"} for name, ref in shown.items() if "/" not in name]
        return Answer({"branches": branches, "converts": converts, "tags": []})

    def _commits(self, request: Request, kind: str, id: str, revision: str) -> Answer:
        repo = self._repo(request, kind, id)
        history = repo.history(self._at(repo, revision))
        return Answer([{"id": c.oid, "title": c.title, "message": "", "date": c.date, "authors": []} for c in history])

    def _preupload(self, request: Request, kind: str, id: str, revision: str) -> Answer:
        files = self._at(self._writable(request, kind, id), revision).files
        answers = []
        for asked in json.loads(request.body)["files"]:
            mode = "lfs" if goes_to_lfs(asked["path"], asked["size"]) else "regular"
            answer = {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}
            if asked["path"] in files:
                answer["oid"] = files[asked["path"]].etag
            answers.append(answer)
        return Answer({"files": answers})

    def _commit(self, request: Request, kind: str, id: str, revision: str) -> Answer:
        repo = self._writable(request, kind, id)
        title, add, delete = "", {}, []
        for line in request.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in {None, repo.refs[revision]}:
                    raise _Refused(412, "", "A commit has happened since. Please refresh and try again.")
            elif item["key"] == "file":
                add[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif item["key"] == "lfsFile":
                if value["oid"] not in self._server.objects:
                    raise _Refused(400, "", f"LFS object {value['oid']} was not uploaded")
                add[value["path"]] = Blob(self._server.objects[value["oid"]], lfs=True)
            elif item["key"] == "deletedFile":
                delete.append(value["path"])
        commit = repo.commit(add, delete=delete, title=title, ref=revision)
        url = f"{self._server.endpoint}/{'datasets/' if kind == 'datasets' else ''}{id}/commit/{commit.oid}"
        return Answer({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})

    def _lfs_batch(self, request: Request, kind: str | None, id: str) -> Answer:
        self._writable(request, kind, id)
        objects = []
        for asked in json.loads(request.body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self._server.objects:
                base = f"{self._server.endpoint}/{f'{kind}/' if kind else ''}{id}"
                answer["actions"] = {
                    "upload": {"href": f"{self._server.cdn}/lfs/{asked['oid']}"},
                    "verify": {"href": f"{base}.git/info/lfs/verify"},
                }
            objects.append(answer)
        return Answer({"transfer": "basic", "objects": objects})

    def _lfs_verify(self, request: Request, kind: str | None, id: str) -> Answer:
        self._writable(request, kind, id)
        asked = json.loads(request.body)
        stored = self._server.objects.get(asked["oid"])
        return Answer() if stored is not None and len(stored) == asked["size"] else Answer({"error": "no"}, 422)

    def _view(self, request: Request, view: str) -> Answer:
        if view not in VIEWS:
            return NOT_FOUND
        return Answer(viewed(self._repo(request, "datasets", request.query["dataset"][0]), view, self._server.endpoint))

    def _resolve(self, request: Request, kind: str | None, id: str, revision: str, path: str) -> Answer:
        repo = self._repo(request, kind, id)
        self._require_terms(request, repo)
        commit = self._at(repo, revision)
        blob = commit.files.get(path)
        if blob is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"}
        if not blob.lfs:
            return Answer(blob.content, headers=headers)
        headers |= {
            "X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content)),
            "Location": f"{self._server.cdn}/lfs/{blob.sha256}",
        }  # fmt: skip
        return Answer(b"", 302, headers)
