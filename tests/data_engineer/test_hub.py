"""Data sets read from the Hub by the real client, from a local server that speaks its API."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agents.reading.hub import snapshot
from agents.reading.hub_layout import layout_of
from shared_memory.errors import BadInput, Unavailable
from tests.servers.hub import TOKEN, DiesAfter, Fails, HubServer, hub, point_client_at
from tests.servers.hub_repos import CONVERTED

ROWS = [{"prompt": f"What is {n} + {n}?", "completion": str(2 * n)} for n in range(50)]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


def parquet(rows: Sequence[Any] = ROWS) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


def jsonl(rows: Sequence[Any] = ROWS) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_parquet_files_are_read_at_a_pinned_commit_with_licence_and_splits(server: HubServer) -> None:
    card = "---\nlicense: mit\n---\n# Sums\n"
    files: dict[str, bytes | str] = {
        "README.md": card, "data/train-00000-of-00002.parquet": parquet(ROWS[:25]),
        "data/train-00001-of-00002.parquet": parquet(ROWS[25:]), "data/test-00000-of-00001.parquet": parquet(ROWS[:5]),
        "notes.txt": "none of these are rows", "dataset_infos.json": "{}",
    }  # fmt: skip
    pinned = server.add("anna/sums", files).head.oid
    server.push(server.dataset("anna/sums"), {"data/test-00000-of-00001.parquet": parquet(ROWS[:7])})
    read = snapshot("anna/sums", revision=pinned)
    assert (read.revision, read.licence, read.card, read.config) == (pinned, "mit", card, "default")
    assert (read.gated, read.private, read.converted) == (False, False, "")
    assert [(split, pq.read_table(path).num_rows) for split, path in read.files] == [
        ("test", 5), ("train", 25), ("train", 25),
    ]  # fmt: skip
    newest = snapshot("anna/sums", split="test")
    assert newest.revision != pinned
    assert [(split, pq.read_table(path).num_rows) for split, path in newest.files] == [("test", 7)]


def test_what_the_cache_has_is_not_fetched_again(server: HubServer) -> None:
    server.add("anna/sums", {"train.parquet": parquet()})
    first = snapshot("anna/sums")
    fetched = len(server.asked("GET /lfs/"))
    assert snapshot("anna/sums") == first
    assert len(server.asked("GET /lfs/")) == fetched == 1


def test_jsonl_files_are_read_where_there_is_no_parquet(server: HubServer) -> None:
    server.add("anna/sums", {"train.jsonl": jsonl(), "data/test.jsonl": jsonl(ROWS[:3]), "train.csv": "a,b\n1,2\n"})
    read = snapshot("anna/sums")
    assert [(split, path.name) for split, path in read.files] == [("test", "test.jsonl"), ("train", "train.jsonl")]
    assert read.licence == ""


def test_a_loading_script_is_never_run_and_the_viewers_parquet_read_instead(server: HubServer, tmp_path: Path) -> None:
    trap = tmp_path / "it ran"
    repo = server.add("anna/sums", {"sums.py": f"open({str(trap)!r}, 'w')", "raw.jsonl": jsonl(ROWS[:1])})
    own = repo.head.oid
    converted = server.push(repo, {"default/train/0000.parquet": parquet()}, ref=CONVERTED)
    read = snapshot("anna/sums")
    assert (read.revision, read.converted) == (own, converted)
    assert [(split, pq.read_table(path).num_rows) for split, path in read.files] == [("train", 50)]
    assert not trap.exists()


def test_a_conversion_that_is_older_than_the_data_or_partial_is_not_called_the_data_set(server: HubServer) -> None:
    repo = server.add("anna/old", {"pages.warc": "1"})
    server.push(repo, {"default/train/0000.parquet": parquet()}, ref=CONVERTED)
    server.push(repo, {"pages.warc": "2"})
    with pytest.raises(BadInput, match=r"anna/old holds no file that can be read .*convert it yourself"):
        snapshot("anna/old")
    repo = server.add("anna/large", {"pages.warc": "1"})
    server.push(repo, {"default/partial-train/0000.parquet": parquet()}, ref=CONVERTED)
    with pytest.raises(BadInput, match=r"anna/large holds no file that can be read"):
        snapshot("anna/large")


def test_several_configs_are_asked_for_by_name_unless_one_is_the_default(server: HubServer) -> None:
    files = {"en/train.parquet": parquet(), "fr/train.parquet": parquet(ROWS[:9]), "fr/validation.parquet": parquet()}
    repo = server.add("anna/talks", files)
    with pytest.raises(BadInput, match="anna/talks has the configs en, fr; name the one to read, as in anna/talks:en"):
        snapshot("anna/talks")
    with pytest.raises(BadInput, match="anna/talks has no config `de`; it has en, fr"):
        snapshot("anna/talks", config="de")
    with pytest.raises(BadInput, match="has no split `test`; config fr has train, validation"):
        snapshot("anna/talks", config="fr", split="test")
    assert [split for split, _ in snapshot("anna/talks", config="fr").files] == ["train", "validation"]
    english = "{config_name: en, data_files: en/*, default: true}"
    french = "{config_name: fr, data_files: [{split: test, path: fr/train*}]}"
    server.push(repo, {"README.md": f"---\nconfigs: [{english}, {french}]\n---\n"})
    assert snapshot("anna/talks").config == "en"
    server.add("anna/many", {f"c{n:03}/train.csv": "a\n1\n" for n in range(100)})
    with pytest.raises(BadInput, match=r"configs c000, c001, .*, c019, … \(100 in all\); name the one to read"):
        snapshot("anna/many")
    assert [split for split, _ in snapshot("anna/talks", config="fr").files] == ["test"]


@pytest.mark.parametrize(
    ("paths", "metadata", "expected"),
    [
        (["data/train_sft-00000-of-00001.parquet"], {}, {"default": {"train_sft": 1}}),
        (["data/validation.csv", "extra.csv"], {}, {"default": {"validation": 1, "train": 1}}),
        (["test/a.json", "train/b.json", "config.json", ".x/train.json"], {}, {"default": {"test": 1, "train": 1}}),
        (["a/x.parquet", "a/y/z.parquet"], {"configs": [{"data_files": "a/*.parquet"}]}, {"default": {"train": 1}}),
        (["a/x.parquet", "a/y/z.parquet"], {"configs": [{"data_files": "**/*.parquet"}]}, {"default": {"train": 2}}),
        (["a/x.parquet"], {"configs": [{"data_files": ["x.*"], "data_dir": "a"}]}, {"default": {"train": 1}}),
        (["x.csv"], {"configs": [{"data_files": "gone*"}, "none", {"config_name": []}]}, {"default": {"train": 1}}),
        (["x.parquet"], {"configs": {"config_name": "c"}}, {"c": {"train": 1}}),
        (["x.csv"], {"configs": [{"config_name": "\x1b[2J", "data_files": "*"}]}, {"[2J": {"train": 1}}),
        (["a/b/" * 30 + "x.csv"], {"configs": [{"data_files": "**/a/" * 30 + "z"}]}, {}),
    ],
)  # fmt: skip
def test_configs_and_splits_come_from_the_card_or_from_names(
    paths: list[str], metadata: dict[str, Any], expected: dict[str, dict[str, int]]
) -> None:
    configs = layout_of(paths, metadata).configs
    assert {
        name: {split: len(files) for split, files in splits.items()} for name, splits in configs.items()
    } == expected


@pytest.mark.parametrize(
    "yaml", ["license: [mit, 3, cc-by-4.0]\nlicense_name: x", "- a\n- b", "a: [" * 2000, "a: 2024-99-99", "\x00"]
)
def test_a_card_of_any_shape_is_read_without_a_traceback(server: HubServer, yaml: str) -> None:
    server.add("anna/odd", {"train.csv": "a\n1\n"})
    server.dataset("anna/odd").info = lambda commit: {"id": "anna/odd", "sha": commit.oid}  # type: ignore[method-assign]
    server.push(server.dataset("anna/odd"), {"README.md": f"---\n{yaml}\n---\n"})
    assert snapshot("anna/odd").licence == ("mit, cc-by-4.0" if yaml.startswith("license") else "")


def test_a_missing_shard_is_told(server: HubServer) -> None:
    server.add("anna/sums", {"data/train-00000-of-00002.parquet": parquet()})
    with pytest.raises(BadInput, match=r"anna/sums has 1 of the 2 files data/train-\*; name a revision"):
        snapshot("anna/sums")


def test_an_unknown_name_or_revision_says_what_to_check(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("anna/sums", {"train.parquet": parquet()}, private=True)
    with pytest.raises(BadInput, match=r"no data set `anna/sumz` that you may read; check the name"):
        snapshot("anna/sumz")
    with pytest.raises(BadInput, match=r"anna/sums has no revision `v9`; leave it out for the newest"):
        snapshot("anna/sums", revision="v9")
    with pytest.raises(BadInput, match=r"`no such: thing` is no Hub id; write it as owner/name"):
        snapshot("no such: thing")
    assert snapshot("anna/sums").private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BadInput, match=r"log in with `hf auth login` if it is private"):
        snapshot("anna/sums")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(BadInput, match=r"does not accept the token"):
        snapshot("anna/sums")


def test_a_gated_set_says_where_to_ask(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = server.add("ben/hard", {"train.parquet": parquet()}, gated=True)
    message = rf"ben/hard is gated; ask for access at {server.endpoint}/datasets/ben/hard, then log in with `hf auth"
    with pytest.raises(BadInput, match=message):
        snapshot("ben/hard")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BadInput, match=message):
        snapshot("ben/hard")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    repo.readers = frozenset({"anna"})
    assert snapshot("ben/hard").gated


def test_a_download_that_breaks_off_goes_on_where_it_was(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)
    content = parquet([{"text": str(n) * 50} for n in range(2000)])
    server.add("anna/sums", {"train.parquet": content})
    server.trouble("GET /lfs/", DiesAfter(1000))
    ((_, path),) = snapshot("anna/sums").files
    assert path.read_bytes() == content
    assert [request.headers.get("range") for request in server.asked("GET /lfs/")] == [None, "bytes=1000-"]


def test_a_download_that_dies_is_no_result_and_a_second_run_keeps_what_is_whole(server: HubServer) -> None:
    files = {"data/a-train.parquet": parquet(ROWS[:9]), "data/b-train.parquet": parquet()}
    repo = server.add("anna/sums", files)
    second = repo.head.files["data/b-train.parquet"].sha256
    server.trouble(f"GET /lfs/{second}", DiesAfter(100, reset=True), times=20)
    with pytest.raises(Unavailable, match=r"the connection to the Hub broke .*; run again, what is whole is kept"):
        snapshot("anna/sums")
    server.calm()
    assert len(snapshot("anna/sums").files) == 2
    assert len(server.asked("GET /lfs/")) == 3


def test_a_file_that_came_damaged_is_refused_and_fetched_anew(server: HubServer) -> None:
    repo = server.add("anna/sums", {"train.parquet": parquet()})
    sha256 = repo.head.files["train.parquet"].sha256
    good = server.objects[sha256]
    server.objects[sha256] = good[:100] + b"?" + good[101:]
    with pytest.raises(Unavailable, match=r"train.parquet of anna/sums came damaged; run again"):
        snapshot("anna/sums")
    server.objects[sha256] = good
    ((_, path),) = snapshot("anna/sums").files
    path.resolve().write_bytes(good[:-1])
    with pytest.raises(Unavailable, match="came damaged"):
        snapshot("anna/sums")
    assert snapshot("anna/sums").files[0][1].read_bytes() == good


def test_a_busy_hub_is_asked_again_and_one_that_stays_down_is_told(server: HubServer) -> None:
    server.add("anna/sums", {"train.parquet": parquet()})
    server.trouble("GET /api/datasets/anna/sums$", Fails(429, {"Retry-After": "0"}))
    server.trouble("GET /api/datasets/anna/sums$", Fails(503, {"Retry-After": "0"}))
    assert snapshot("anna/sums").files
    assert len(server.asked("GET /api/datasets/anna/sums$")) == 3
    server.trouble("GET /api/datasets/anna/sums$", Fails(503, {"Retry-After": "3600"}))
    with pytest.raises(Unavailable, match=r"the Hub answers 503 for anna/sums .*run again, what is whole is kept"):
        snapshot("anna/sums")


def test_no_network_is_told_apart_from_a_wrong_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with hub() as gone:
        point_client_at(gone, monkeypatch, tmp_path)
    with pytest.raises(Unavailable, match=r"the connection to the Hub broke .*ConnectError"):
        snapshot("anna/sums")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match="anna/sums is on the Hub and HF_HUB_OFFLINE is set; unset it"):
        snapshot("anna/sums")


def test_the_token_goes_to_the_hub_and_nowhere_else(server: HubServer) -> None:
    server.add("anna/sums", {"train.parquet": parquet(), "README.md": "# Sums\n"}, private=True)
    snapshot("anna/sums")
    assert {request.token for request in server.requests if request.host == "hub" and "anna" in request.path} == {TOKEN}
    assert server.asked("GET /lfs/")
    assert not [request for request in server.requests if request.host == "cdn" and "authorization" in request.headers]
