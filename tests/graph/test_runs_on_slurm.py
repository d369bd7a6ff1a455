"""Whole runs whose jobs are on a Slurm cluster: a real one, with its nodes on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.jobs.slurm.runner import SlurmRunner
from graph import context
from postgrad import api
from postgrad.decide import approve_all
from postgrad.events import Event
from postgrad.logs import show as show_log
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.jobs.conformance import eventually
from tests.servers.slurm import SlurmCluster, missing, slurm_cluster

pytestmark = [
    pytest.mark.usefixtures("noop_jobs"),
    pytest.mark.skipif(bool(missing()), reason=f"Slurm: {missing()}"),
]


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def cluster(daemons: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    monkeypatch.setenv("SLURM_CONF", str(daemons.config))
    monkeypatch.setattr(context, "SlurmRunner", partial(SlurmRunner, grace=0.5, poll_seconds=0.0, lag=1.0))
    yield daemons
    daemons.run("scancel", "--user=" + str(os.getuid()))
    assert eventually(lambda: not daemons.run("squeue", "--noheader")), "a job stayed on the cluster"


def test_a_whole_run_is_on_the_cluster_with_consent_to_each_job(
    make_goal: MakeGoal,
    cluster: SlurmCluster,
    settings: Settings,
    recipe: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe()
    asked: list[tuple[str, str, str]] = []

    def decide(requests: list[dict[str, Any]]) -> dict[str, Any]:
        (request,) = requests
        on_the_cluster = [purpose for purpose, runner, _ in asked if runner == "slurm"]
        submitted = cluster.run("squeue", "--noheader", "--states=all", "--format=%i").split()
        assert len(submitted) == len(on_the_cluster), "nothing is submitted before its approval"
        assert request["estimate"]["usd_micro"] == 0
        asked.append((request["purpose"], request["runner"], request["flavor"]))
        return approve_all(requests)

    summary = postgrad.run(make_goal(experiments=1), on="slurm", approve="ask", decide=decide)

    assert (summary["status"], summary["outcome"]) == ("succeeded", "improved"), summary["error"]
    assert asked == [
        ("evaluation", "slurm", "cpu"), ("generation", "local", "cpu"), ("training", "slurm", "cpu"),
        ("evaluation", "slurm", "cpu"), ("merge", "slurm", "cpu"), ("evaluation", "slurm", "cpu"),
    ]  # fmt: skip
    assert summary["spent"]["usd"] == 0
    assert summary["spent"]["jobs"] == 6
    assert Path(summary["champion"]["model"], "quality.json").exists()
    claims = [*settings.run_paths(summary["run_id"]).jobs.glob("*/claim.json")]
    assert len(claims) == 5
    assert {json.loads(path.read_text())["node"] for path in claims} == {os.uname().nodename}
    show_log(settings, summary["run_id"], "e1", follow=False, as_json=False)
    assert '{"result": {"prompts": 25' in capsys.readouterr().out


@pytest.mark.slow
def test_cancel_ends_the_job_on_the_cluster(
    make_goal: MakeGoal, cluster: SlurmCluster, settings: Settings, recipe: Callable[..., None]
) -> None:
    recipe(learning_rate=20.0)

    def stop(event: Event) -> None:
        if event.kind == "progress" and event.purpose == "training":
            api.cancel(settings, event.run_id)

    summary = postgrad.run(make_goal(experiments=1), on="slurm", on_event=stop)

    assert summary["status"] == "cancelled"
    assert summary["champion"]["experiment"] == "baseline"
    assert eventually(lambda: not cluster.run("squeue", "--noheader"))
