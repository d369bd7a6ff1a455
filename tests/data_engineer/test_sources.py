"""What a person names, as files: folders, what `datasets` saved, the Hub; and what training leaves alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.data_engineer.formats.tables import read_sources
from agents.data_engineer.prepare import prepare
from agents.data_engineer.proposal import DataProposal
from agents.reading.sources import resolve, to_train_on
from shared_memory.errors import BadInput
from tests.data_engineer.rows import write_jsonl
from tests.servers.hub import HubServer, hub, point_client_at

PAIRS = [{"prompt": f"What is {n} and {n} more, all in all?", "completion": f"{2 * n}"} for n in range(12)]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path / name, PAIRS[:2])
    return path


def test_a_folder_is_its_data_files_by_split_whatever_lies_beside_them(tmp_path: Path) -> None:
    names = ["b/train-1.jsonl", "a.jsonl", "test/rows.jsonl", "my_dev_set.jsonl", ".cache/x.jsonl", "state.json"]
    data = folder(tmp_path / "data", *names)
    (data / "README.md").write_text("# Rows")
    found = resolve([str(data)])
    assert [(source.path.relative_to(data).as_posix(), source.split) for source in found] == [
        ("a.jsonl", ""), ("b/train-1.jsonl", "train"), ("my_dev_set.jsonl", "validation"), ("test/rows.jsonl", "test"),
    ]  # fmt: skip
    assert {source.given for source in found} == {str(data)}
    assert [source.path.name for source in to_train_on([str(data)])] == ["a.jsonl", "train-1.jsonl"]
    assert [row.id for row in read_sources([str(data)])] == ["1:1", "1:2", "2:1", "2:2"]
    alone = to_train_on([str(folder(tmp_path, "test.jsonl") / "test.jsonl")])
    assert [source.split for source in alone] == ["test"], "who names a file wants it"


def test_what_datasets_saved_to_disk_is_read_without_its_caches(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    saved = DatasetDict({"train": Dataset.from_list(PAIRS), "test": Dataset.from_list(PAIRS[:3])})
    saved.save_to_disk(tmp_path / "saved", num_shards={"train": 2, "test": 1})
    (tmp_path / "saved" / "train" / "cache-123.arrow").write_bytes(b"not for us")
    assert [source.split for source in resolve([str(tmp_path / "saved")])] == ["train", "train", "test"]
    rows = read_sources([str(tmp_path / "saved")])
    assert [row.completion[0].content for row in rows] == [pair["completion"] for pair in PAIRS]
    (tmp_path / "saved" / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(BadInput, match=r"has 1 of the 2 files .*data-\*"):
        resolve([str(tmp_path / "saved")])


def test_a_link_that_leads_out_of_the_folder_is_refused_and_one_within_it_is_not(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", "a.jsonl")
    secret = write_jsonl(tmp_path / "secret.jsonl", PAIRS)
    (data / "b.jsonl").symlink_to(data / "a.jsonl")
    assert len(resolve([str(data)])) == 2
    (data / "c.jsonl").symlink_to(secret)
    with pytest.raises(BadInput, match=r"c\.jsonl is a link that leads out of .*; name the file it leads to"):
        resolve([str(data)])
    (data / "c.jsonl").unlink()
    (data / "more").symlink_to(tmp_path)
    with pytest.raises(BadInput, match=r"more is a link that leads out of"):
        resolve([str(data)])


def test_a_pipe_in_a_folder_and_a_folder_without_data_are_one_line(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", "a.jsonl")
    os.mkfifo(data / "b.jsonl")
    with pytest.raises(BadInput, match=r"b\.jsonl is not a file"):
        read_sources([str(data)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"empty holds no data files; give one with \.jsonl"):
        resolve([str(tmp_path / "empty")])


def test_a_missing_file_is_not_asked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data/rows\.jsonl does not exist; check the path"):
        read_sources(["data/rows.jsonl"])
    with pytest.raises(
        BadInput, match="is no data set on the Hub; give org/name, org/name@revision or org/name:config"
    ):
        resolve(["hf://datasets/only-a-name"])


def test_a_data_set_on_the_hub_is_trained_on_at_its_commit_under_its_licence_without_its_test_split(
    server: HubServer, tmp_path: Path
) -> None:
    text = "".join(json.dumps(row) + "\n" for row in PAIRS)
    files: dict[str, bytes | str] = {
        "README.md": "---\nlicense: [mit, cc-by-4.0]\n---\n", "train.jsonl": text, "test.jsonl": text,
    }  # fmt: skip
    commit = server.add("anna/sums", files).head.oid
    (train,) = to_train_on(["anna/sums"])
    assert (train.origin, train.revision, train.licence, train.split) == (
        "anna/sums",
        commit,
        "mit, cc-by-4.0",
        "train",
    )
    own = write_jsonl(
        tmp_path / "own.jsonl", [{"prompt": f"Who is {n}?", "completion": f"It is {n}."} for n in "abcdefgh"]
    )
    record = prepare(DataProposal(sources=("hf://datasets/anna/sums",)), benchmarks=[], folder=tmp_path / "d", seed=0)
    assert (record.rows, record.revision, record.licence) == (12, commit, "mit, cc-by-4.0")
    pinned = DataProposal(sources=(f"anna/sums@{commit}:default", own))
    record = prepare(pinned, benchmarks=[], folder=tmp_path / "d", seed=0)
    assert record.rows == 20
    assert record.revision.startswith(f"anna/sums@{commit}, ")
