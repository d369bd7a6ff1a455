"""The Hub's stand-in, asked by the real client and by plain HTTP."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.servers.hub import TOKEN, DiesAfter, Fails, HubServer, hub, point_client_at
from tests.servers.hub_repos import CONVERTED


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


def test_what_it_does_not_know_is_not_found(server: HubServer) -> None:
    assert httpx.get(f"{server.endpoint}/api/agent-harnesses").status_code == 404
    assert httpx.put(f"{server.endpoint}/api/whoami-v2").status_code == 404
    assert [request.line for request in server.requests] == ["GET /api/agent-harnesses", "PUT /api/whoami-v2"]


def test_a_tree_comes_in_pages_and_a_commit_keeps_its_sha(server: HubServer) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile, RepoFolder

    api = HfApi()
    repo = server.add("anna/many", {f"data/{n:04}.txt": str(n) for n in range(2500)})
    kinds = Counter(type(entry) for entry in api.list_repo_tree("anna/many", recursive=True, repo_type="dataset"))
    assert kinds == {RepoFile: 2500, RepoFolder: 1}
    assert len(server.asked("GET /api/datasets/anna/many/tree/main")) == 3
    first = repo.head.oid
    server.push(repo, {"data/0000.txt": "changed"})
    assert api.dataset_info("anna/many", revision=first).sha == first != repo.head.oid
    old, new = (
        api.hf_hub_download("anna/many", "data/0000.txt", repo_type="dataset", revision=revision)
        for revision in (first, "main")
    )
    assert (Path(old).read_text(), Path(new).read_text()) == ("0", "changed")
    with hub() as other:
        assert other.add("anna/many", {f"data/{n:04}.txt": str(n) for n in range(2500)}).head.oid == first


def test_who_may_read_what(server: HubServer) -> None:
    server.add("ben/secret", {"a.txt": "a"}, private=True)
    server.add("ben/gated", {"a.txt": "a"}, gated=True)
    known = {"Authorization": f"Bearer {TOKEN}"}
    answers = {
        (path, bool(headers)): httpx.get(f"{server.endpoint}/{path}", headers=headers)
        for path in ("api/datasets/ben/secret", "api/datasets/ben/gated", "datasets/ben/gated/resolve/main/a.txt")
        for headers in ({}, known)
    }
    assert [(answer.status_code, answer.headers.get("x-error-code")) for answer in answers.values()] == [
        (401, "RepoNotFound"), (404, "RepoNotFound"), (200, None), (200, None), (401, "GatedRepo"), (403, "GatedRepo"),
    ]  # fmt: skip


def test_the_viewer_tells_of_the_converted_branch(server: HubServer) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": [1, 2, 3]}), sink)
    repo = server.add("anna/sums", {"raw.warc": "…"})
    server.push(repo, {"default/partial-train/0000.parquet": sink.getvalue()}, ref=CONVERTED)

    def ask(view: str) -> Any:
        return httpx.get(f"{server.viewer}/{view}", params={"dataset": "anna/sums"}).json()

    assert ask("is-valid")["viewer"] is True
    assert ask("splits")["splits"] == [{"dataset": "anna/sums", "config": "default", "split": "train"}]
    assert ask("size")["partial"] is True
    assert ask("info")["dataset_info"] == {"default": {"config_name": "default", "splits": {}}}
    assert ask("statistics")["num_examples"] == 3
    (file,) = ask("parquet")["parquet_files"]
    assert httpx.get(file["url"], follow_redirects=True).content == sink.getvalue()


def test_troubles_come_as_often_as_they_were_asked_for(server: HubServer) -> None:
    server.add("anna/sums", {"a.txt": "0123456789"})
    url = f"{server.endpoint}/datasets/anna/sums/resolve/main/a.txt"
    server.trouble("GET .*/resolve/", Fails(503, {"Retry-After": "7"}))
    assert (httpx.get(url).status_code, httpx.get(url).text) == (503, "0123456789")
    server.trouble("GET .*/resolve/", DiesAfter(4))
    with pytest.raises(httpx.RemoteProtocolError, match="received 4 bytes, expected 10"):
        httpx.get(url)
    server.trouble("GET .*/resolve/", DiesAfter(4, reset=True))
    with pytest.raises(httpx.ReadError):
        httpx.get(url)
    assert httpx.get(url, headers={"Range": "bytes=4-6"}).text == "456"
