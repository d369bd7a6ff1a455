"""A job on a machine whose disk is gone at the end brings its model and its checkpoints to the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.hub import HubServer, client_environment, hub
from tests.trainer.job import job, run, start


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with hub() as serving:
        yield serving


@pytest.mark.slow
def test_the_model_and_the_last_checkpoint_are_in_a_private_repository(
    server: HubServer, tiny_model: Path, tmp_path: Path
) -> None:
    settings = {"push_to_hub": True, "hub_model_id": "anna/pushed", "save_steps": 2, "max_steps": 4}
    folder = job(tmp_path / "job", model=tiny_model, **settings)
    _, result = run(folder, PYTHONPATH="", **client_environment(server, tmp_path / "hf"))
    repo = server.repos["models", "anna/pushed"]
    assert repo.private
    files = {path: blob.content for path, blob in repo.at("main").files.items()}
    assert files["adapter_model.safetensors"] == (folder / "out/adapter/adapter_model.safetensors").read_bytes()
    assert "README.md" not in files
    assert files["last-checkpoint/trainer_state.json"] == (folder / "out/checkpoint-4/trainer_state.json").read_bytes()
    assert "last-checkpoint/optimizer.pt" in files
    assert result["hub"] == f"anna/pushed@{repo.at('main').oid}"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hub_model_id": "anna/open"}, "the repository anna/open is public; set hub_private to false"),
        ({"hub_model_id": "bert/theirs"}, "bert/theirs cannot be written to"),
    ],
)
def test_a_job_does_not_start_that_could_not_deliver(
    server: HubServer, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    server.add("anna/open", {"a": "b"}, kind="models")
    process = start(
        job(tmp_path / "job", model="m", push_to_hub=True, **settings),
        PYTHONPATH="",
        **client_environment(server, tmp_path / "hf"),
    )
    _, err = process.communicate()
    assert process.returncode == 2
    assert words in err.splitlines()[-1]
