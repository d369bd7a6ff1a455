"""`postgrad audit` of a data set on the Hub: at a pinned commit, whole, or refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.servers.hub import DiesAfter, HubServer, client_environment, hub

CARD = "---\nlicense: cc-by-nc-4.0\n---\n# Pages\n"


@pytest.fixture
def server() -> Iterator[HubServer]:
    with hub() as running:
        yield running


@pytest.fixture
def audit(server: HubServer, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "postgrad", "audit", *arguments]
        environment = client_environment(server, tmp_path / "hf")
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)

    return run


def parquet(path: Path, count: int) -> bytes:
    rows = [{"prompt": f"What stands on page {n}?", "completion": f"Line {n} of the book does."} for n in range(count)]
    pl.DataFrame(rows).write_parquet(path)
    return path.read_bytes()


def test_all_splits_are_read_at_the_commit_that_is_named_and_the_licence_is_judged(
    audit: Callable[..., Any], server: HubServer, tmp_path: Path
) -> None:
    files = {
        "README.md": CARD,
        "data/train-00000-of-00001.parquet": parquet(tmp_path / "train.parquet", 40),
        "data/test-00000-of-00001.parquet": parquet(tmp_path / "test.parquet", 12),
    }
    repo = server.add("anna/pages", files)
    first = repo.head.oid
    server.push(repo, {"data/train-00000-of-00001.parquet": parquet(tmp_path / "more.parquet", 99)})

    done = audit(f"anna/pages@{first}", "--json")

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"] == 52
    assert found["splits"] == {"train": 40, "test": 12}
    kinds = {finding["kind"]: finding for finding in found["findings"]}
    assert kinds["across_splits"]["count"] == 12
    assert "forbids commercial use" in kinds["licence"]["advice"]


def test_a_gated_set_says_where_to_ask(audit: Callable[..., Any], server: HubServer) -> None:
    server.add("ben/secret", {"train.jsonl": '{"prompt": "a", "completion": "b"}\n'}, gated=True)
    done = audit("ben/secret")
    assert done.returncode == 2
    assert "ask for access at" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_dies_half_way_is_no_partial_result(
    audit: Callable[..., Any], server: HubServer, tmp_path: Path
) -> None:
    server.add("anna/pages", {"train.parquet": parquet(tmp_path / "train.parquet", 5_000)})
    server.trouble("GET /lfs/", DiesAfter(100, reset=True), times=100)
    done = audit("anna/pages", "--json")
    assert done.returncode != 0
    assert not done.stdout.strip()
    assert "Traceback" not in done.stderr
    assert "run again" in done.stderr
