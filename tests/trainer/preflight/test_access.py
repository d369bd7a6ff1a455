"""What a job may read and write on the Hub, asked with the real client before the job is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.hub import Fails, HubServer, hub, point_client_at
from tests.trainer.preflight.a_job import PLAIN, found, look

READS = "def main(load_dataset):\n    load_dataset('bob/rows')\n"
PUSHES = {"push_to_hub": True, "hub_model_id": "anna/trained"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


def test_a_gated_model_and_a_missing_data_set_are_found_before_the_job_meets_them(
    server: HubServer, tmp_path: Path
) -> None:
    gated = server.add("bob/gated", {"config.json": "{}"}, kind="models", gated=True)
    config = {"model": "bob/gated"}
    check = found(look(tmp_path, config=config, facts={"online": True}), "access_granted")
    assert (check.status, check.message) == ("fault", "bob/gated is gated")
    assert "accept its terms" in check.fix
    gated.readers = frozenset({"anna"})
    assert found(look(tmp_path, config=config, facts={"online": True}), "access_granted").status == "ok"

    check = found(look(tmp_path, script=READS, facts={"online": True}), "access_granted")
    assert check.status == "fault"
    assert "no dataset `bob/rows`" in check.message
    assert found(look(tmp_path, script=READS, facts={}), "access_granted").status == "skipped"


def test_a_repository_that_the_token_may_not_write_to_is_found_and_none_is_created(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(repo: str) -> tuple[str, str]:
        config = {"push_to_hub": True, "hub_model_id": repo}
        check = found(look(tmp_path, script=PLAIN, config=config, facts={"online": True}), "output_repo_writable")
        return check.status, check.message

    server.add("anna/there", {"README.md": "#"}, kind="models")
    server.add("bob/his", {"README.md": "#"}, kind="models")
    assert asked("anna/there") == ("ok", "anna/there may be written to")
    assert asked("anna/new") == ("ok", "anna/new may be written to")
    assert asked("bob/his") == ("fault", "the token may not write to bob/his")
    assert asked("bob/new") == ("fault", "anna may not create bob/new")
    assert ("models", "anna/new") not in server.repos
    server.trouble("auth-check", Fails(503), times=9)
    assert asked("anna/there")[0] == "skipped"
    server.calm()
    monkeypatch.setenv("HF_TOKEN", "hf_NobodysTokenAtAll012345")
    assert asked("anna/there")[0] == "fault"
