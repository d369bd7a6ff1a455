"""Data sets published to a folder, and to the Hub by the real client over a local server that speaks its API."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from agents.data_engineer.publishing import publish, shards
from agents.data_engineer.publishing.publish import plan, to_folder, to_hub
from agents.reading.hub import snapshot
from shared_memory.errors import BadInput, Conflict, Unavailable
from shared_memory.records import DatasetRecord, Step
from tests.servers.hub import TOKEN, DiesAfter, Fails, HubServer, client_environment, hub, point_client_at

# The client's own upload warns about a keyword of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw:DeprecationWarning")

STEPS = (
    Step(name="convert", rows_in=60, rows_out=60, note="question ← query | answer"),
    Step(name="decontaminate", rows_in=60, rows_out=50, note="gpqa_main: 2 of 448 items found"),
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


def sums(count: int = 50, factor: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": f"{n} + {n}?"}],
            "completion": [{"role": "assistant", "content": f"{factor * n} — ∑"}],
        }
        for n in range(count)
    ]


def a_record(folder: Path, rows: Sequence[Any] | None = None, **changes: Any) -> DatasetRecord:
    rows = sums() if rows is None else rows
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path = folder / f"{hashlib.sha256(content).hexdigest()[:8]}.jsonl"
    path.write_bytes(content)
    values: dict[str, Any] = {
        "id": "d1", "source": "/home/anna/private/sums.jsonl, org/more", "revision": "abc123", "path": str(path),
        "digest": hashlib.sha256(content).hexdigest(), "rows": len(rows), "steps": STEPS, "licence": "cc-by-4.0",
        "contamination": {"gpqa_main": 0.0045}, "findings": ("exact_duplicates: 3 rows",),
    }  # fmt: skip
    return DatasetRecord(**(values | changes))


def held(server: HubServer, repo_id: str) -> dict[str, bytes]:
    return {path: blob.content for path, blob in server.dataset(repo_id).head.files.items()}


def test_a_published_folder_is_loaded_by_datasets_with_the_same_rows(tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = to_folder(a_record(tmp_path), tmp_path / "out" / "sums")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "README.md", "train-00000-of-00001.parquet",
    ]  # fmt: skip
    loaded = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == sums()
    schema = pq.read_schema(folder / "data" / "train-00000-of-00001.parquet")
    assert str(schema.field("prompt").type) == "list<element: struct<role: string, content: string>>"
    assert [path.name for path in folder.parent.iterdir()] == ["sums"]


def test_the_card_tells_where_the_rows_come_from_and_nothing_of_this_machine(tmp_path: Path) -> None:
    token = "hf_" + "aB3" * 10
    steps = (*STEPS, Step(name="note", rows_in=1, rows_out=1, note=f"read /home/anna/x/y.csv with {token} <b>"))
    card = (to_folder(a_record(tmp_path, steps=steps), tmp_path / "sums") / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlicense: "cc-by-4.0"\nsize_categories: ["n<1K"]\n')
    assert "| prompt | messages |\n| completion | messages |\n\n```python" in card
    assert "- Made from: sums.jsonl, org/more\n- Revision of what it was made from: abc123\n" in card
    assert "| decontaminate | 60 | 50 | gpqa\\_main: 2 of 448 items found |" in card
    assert "| gpqa\\_main | 0.45% |" in card
    assert "exact\\_duplicates: 3 rows" in card
    assert 'load_dataset("sums", split="train")' in card
    assert "y.csv with [redacted]" in card.replace("\\", "")
    assert all(secret not in card for secret in (token, "/home", "anna", "<b>"))


def test_the_same_rows_give_the_same_bytes_in_shards_of_a_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = a_record(tmp_path, sums(1000))
    monkeypatch.setattr(shards, "GROUP_BYTES", 10_000)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (shards.write_shards(Path(record.path), tmp_path / name, 40_000) for name in ("one", "two"))
    assert [path.name for path in one] == [f"train-0000{n}-of-00005.parquet" for n in range(5)]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert list(shards.rows_of(one)) == sums(1000)
    assert max(pq.read_metadata(path).num_rows for path in one) < 300


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([{"a": 1}, {"a": "x"}], "cannot be kept as Parquet"),
        ([{"a": 1}, {"a": 1.5}], "does not come back the same"),
        ([{"a": {}}], "cannot be kept as Parquet"),
        ([{"a": 2**70}], "cannot be kept as Parquet"),
        ([{"a": "\ud800"}], "cannot be kept as Parquet"),
    ],
)
def test_rows_that_parquet_would_change_are_refused(tmp_path: Path, rows: list[Any], fault: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(BadInput, match=f"rows.jsonl {fault}.*give each column one type"):
        shards.write_shards(path, tmp_path)


def test_a_column_that_is_missing_in_rows_stays_missing(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"m": [{"role": "user", "content": None}]},
        {"m": [{"role": "tool", "content": "x", "name": "f"}], "n": 1},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert shards.content_digest(shards.rows_of(shards.write_shards(path, tmp_path))) == shards.content_digest(rows)


def test_a_folder_is_brought_up_to_date_and_never_taken_from_somebody_else(tmp_path: Path) -> None:
    folder = to_folder(a_record(tmp_path), tmp_path / "sums")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    to_folder(a_record(tmp_path), folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    (folder / "data" / "train-00000-of-00009.parquet").write_bytes(b"left by a larger one")
    to_folder(a_record(tmp_path, sums(9)), folder)
    assert list(shards.rows_of((folder / "data").glob("*.parquet"))) == sums(9)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "README.md").write_text("# Mine\n")
    with pytest.raises(BadInput, match="theirs holds something else; name a new folder"):
        to_folder(a_record(tmp_path), tmp_path / "theirs")
    with pytest.raises(BadInput, match=r"README\.md is a file; name a folder"):
        to_folder(a_record(tmp_path), tmp_path / "theirs" / "README.md")


def test_a_data_set_is_published_privately_in_one_commit_and_read_back(server: HubServer, tmp_path: Path) -> None:
    published = to_hub(a_record(tmp_path), "anna/sums")
    repo = server.dataset("anna/sums")
    assert (published.repo_id, published.revision, published.private) == ("anna/sums", repo.head.oid, True)
    assert published.changed
    assert published.url == f"{server.endpoint}/datasets/anna/sums"
    assert repo.private
    assert len(repo.commits) == 2  # the Hub's own first one, and ours
    assert published.files == ("data/train-00000-of-00001.parquet", "README.md")
    assert server.asked("GET /lfs/")
    read = snapshot("anna/sums", revision=published.revision)
    assert (read.licence, list(shards.rows_of(path for _, path in read.files))) == ("cc-by-4.0", sums())
    assert to_hub(a_record(tmp_path, sums(3)), "small").repo_id == "anna/small"


def test_publishing_the_same_again_makes_no_second_commit(server: HubServer, tmp_path: Path) -> None:
    first = to_hub(a_record(tmp_path), "anna/sums")
    again = to_hub(a_record(tmp_path), "anna/sums")
    assert (again.revision, again.changed) == (first.revision, False)
    mended = held(server, "anna/sums")["README.md"].replace(b"# anna/sums", b"# Sums, by Anna")
    edited = server.push(server.dataset("anna/sums"), {"README.md": mended})
    assert to_hub(a_record(tmp_path), "anna/sums").revision == edited
    assert len(server.asked("POST .*/commit/")) == 1


def test_new_rows_replace_the_old_ones_and_leave_other_files_alone(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "write_shards", lambda path, folder: shards.write_shards(path, folder, 4_000))
    to_hub(a_record(tmp_path), "anna/sums")
    assert "data/train-00000-of-00002.parquet" in held(server, "anna/sums")
    server.push(server.dataset("anna/sums"), {"notes.md": "mine"})
    assert to_hub(a_record(tmp_path, sums(9)), "anna/sums").changed
    assert sorted(held(server, "anna/sums")) == [
        ".gitattributes", "README.md", "data/train-00000-of-00001.parquet", "notes.md",
    ]  # fmt: skip


def test_another_ones_data_set_is_never_overwritten(server: HubServer, tmp_path: Path) -> None:
    server.add("anna/poems", {"poems.txt": "…", "README.md": "# Poems\n"}, private=True)
    with pytest.raises(BadInput, match="anna/poems holds a data set that postgrad did not make; choose another name"):
        to_hub(a_record(tmp_path), "anna/poems")
    with pytest.raises(BadInput, match="no right to do this with ben/sums"):
        to_hub(a_record(tmp_path), "ben/sums")
    assert not server.asked("POST .*/commit/")


def test_what_is_private_stays_private_and_what_is_public_gets_nothing_private(
    server: HubServer, tmp_path: Path
) -> None:
    to_hub(a_record(tmp_path), "anna/hidden")
    with pytest.raises(BadInput, match="anna/hidden is private, and publishing makes nothing public"):
        to_hub(a_record(tmp_path, sums(3)), "anna/hidden", private=False)
    assert not to_hub(a_record(tmp_path), "anna/open", private=False).private
    with pytest.raises(BadInput, match="anna/open is public and this data set was to stay private"):
        to_hub(a_record(tmp_path, sums(3)), "anna/open")
    assert (server.dataset("anna/hidden").private, server.dataset("anna/open").private) == (True, False)
    assert len(server.asked("POST .*/commit/")) == 2


@pytest.mark.parametrize("where", ["POST /api/repos/create", "PUT /lfs/", "POST .*/commit/"])
def test_a_run_that_was_killed_anywhere_is_completed_by_the_next_one(
    server: HubServer, tmp_path: Path, where: str
) -> None:
    code = (
        "import sys\n"
        "from agents.data_engineer.publishing.publish import to_hub\n"
        "from shared_memory.records import DatasetRecord\n"
        "to_hub(DatasetRecord.model_validate_json(sys.argv[1]), 'anna/sums')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, a_record(tmp_path).model_dump_json()], cwd=Path(__file__).parents[2],
        env=client_environment(server, tmp_path / "killed"),
    ) as victim:  # fmt: skip
        server.afterwards = lambda request: victim.kill() if re.search(where, request.line) else None
    assert victim.returncode == -signal.SIGKILL
    server.afterwards = lambda request: None
    published = to_hub(a_record(tmp_path), "anna/sums")
    repo = server.dataset("anna/sums")
    assert list(shards.rows_of(path for _, path in snapshot("anna/sums").files)) == sums()
    assert (repo.private, len(repo.commits), published.revision) == (True, 2, repo.head.oid)
    assert len(server.asked("POST .*/commit/")) == 1


def test_a_connection_that_breaks_is_told_with_the_next_move(server: HubServer, tmp_path: Path) -> None:
    server.trouble("POST .*/commit/", DiesAfter(0, reset=True))
    with pytest.raises(Unavailable, match=r"the connection to the Hub broke while anna/sums .*; run again"):
        to_hub(a_record(tmp_path), "anna/sums")
    server.trouble("PUT /lfs/", Fails(403))
    with pytest.raises(BadInput, match="no right to do this with anna/more"):
        to_hub(a_record(tmp_path, sums(9)), "anna/more")


def test_a_busy_hub_is_asked_again_and_a_commit_in_between_is_a_conflict(server: HubServer, tmp_path: Path) -> None:
    server.trouble("POST .*/commit/", Fails(429, {"Retry-After": "0"}))
    server.trouble("POST /api/repos/create", Fails(503, {"Retry-After": "0"}))
    assert to_hub(a_record(tmp_path), "anna/sums").changed
    assert len(server.asked("POST .*/commit/")) == 2
    server.trouble("POST .*/commit/", Fails(412))
    with pytest.raises(Conflict, match="somebody else committed to anna/sums at the same time; run again"):
        to_hub(a_record(tmp_path, sums(9)), "anna/sums")


def test_what_comes_back_otherwise_than_it_was_sent_is_no_success(server: HubServer, tmp_path: Path) -> None:
    def lose_the_rows(request: Any) -> None:
        if request.method == "POST" and "/commit/" in request.path:
            for repo in server.repos.values():
                files = {path: blob for path, blob in repo.head.files.items() if not path.endswith(".parquet")}
                repo.commits[repo.head.oid] = type(repo.head)(repo.head.oid, "", "", files, 1)

    server.afterwards = lose_the_rows
    with pytest.raises(Unavailable, match=r"anna/sums at [0-9a-f]{8} does not hold what was sent; run again"):
        to_hub(a_record(tmp_path), "anna/sums")


def test_the_token_goes_to_the_hub_alone_and_into_no_log(
    server: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BadInput, match="the Hub has to know who you are; log in with `hf auth login`, or set HF_TOKEN"):
        to_hub(a_record(tmp_path), "anna/sums")
    with caplog.at_level(logging.DEBUG):
        to_hub(a_record(tmp_path), "anna/sums", token=TOKEN, endpoint=server.endpoint)
    assert {request.host for request in server.requests if request.token} == {"hub"}
    assert server.asked("PUT /lfs/")
    assert server.asked("GET /lfs/")
    assert TOKEN not in caplog.text + "".join(capfd.readouterr())
    assert not any(TOKEN.encode() in content for content in held(server, "anna/sums").values())
    with pytest.raises(BadInput, match="does not accept the token"):
        to_hub(a_record(tmp_path), "anna/sums", token="hf_wrong")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": STEPS[:1]}, "items of gpqa_main were found in the rows and not taken out; decontaminate them first"),
        ({"steps": (Step(name="hold_out", rows_in=9, rows_out=8),)}, "items of gpqa_main were found"),
        (
            {"steps": (Step(name="hold_out", rows_in=9, rows_out=8),), "contamination": {}},
            "rows were held out and copies of them not taken out",
        ),
        ({"licence": "mit, cc-by-nc-nd-4.0"}, "the licence cc-by-nc-nd-4.0 forbids sharing changed copies"),
        ({"licence": "All rights reserved"}, "forbids sharing"),
    ],
)
def test_what_must_not_leave_does_not_leave(
    server: HubServer, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    record = a_record(tmp_path, **changes)
    assert plan(record, "anna/sums")["refused"].startswith(reason) or reason in plan(record, "anna/sums")["refused"]
    with pytest.raises(BadInput, match=reason):
        to_hub(record, "anna/sums")
    assert not server.requests


def test_a_licence_that_forbids_sharing_is_allowed_by_name_alone(server: HubServer, tmp_path: Path) -> None:
    record = a_record(tmp_path, licence="CC-BY-ND-4.0")
    with pytest.raises(BadInput, match="forbids sharing"):
        to_hub(record, "anna/sums", allowed_licences=["mit"])
    assert to_hub(record, "anna/sums", allowed_licences=["cc-by-nd-4.0"]).changed


def test_a_plan_shows_what_would_leave_and_asks_nobody(server: HubServer, tmp_path: Path) -> None:
    record = a_record(tmp_path, licence="", contamination={}, steps=())
    assert plan(record, "anna/sums", private=False) == {
        "repo": "anna/sums", "private": False, "files": ["README.md", "data/train-00000-of-00001.parquet"],
        "bytes": Path(record.path).stat().st_size, "rows": 50, "licence": "unknown", "digest": record.digest,
        "leaves": "50 rows as Parquet and a card that says how they were made",
        "warnings": [
            "the licence of its source is unknown; the card says so",
            "its rows were not checked against any benchmark; the card says so",
            "everybody will be able to read it",
        ],
        "refused": "",
    }  # fmt: skip
    assert not server.requests
    card = (to_folder(record, tmp_path / "sums") / "README.md").read_text(encoding="utf-8")
    assert 'license: "unknown"' in card
    assert "**Unknown.**" in card
    assert "**These rows were not checked against any benchmark.**" in card


def test_rows_that_changed_since_are_not_published(server: HubServer, tmp_path: Path) -> None:
    record = a_record(tmp_path)
    Path(record.path).write_text("{}\n")
    with pytest.raises(BadInput, match="has changed since data set d1 was made of it; prepare the data again"):
        to_hub(record, "anna/sums")
    Path(record.path).unlink()
    with pytest.raises(BadInput, match="is gone, the rows of data set d1"):
        plan(record, "anna/sums")
    assert not server.asked("POST")
