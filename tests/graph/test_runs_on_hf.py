"""Whole runs whose jobs are on HF Jobs: consent, staging, money, faults of the service, and what comes home."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import postgrad
from agents.jobs.hf.runner import HfRunner
from graph import context
from graph.forecast import forecast
from postgrad import api
from postgrad.cli import main
from postgrad.decide import approve_all
from postgrad.events import Event
from postgrad.logs import show as show_log
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.goal import Goal
from shared_memory.goal_reading import read_goal
from shared_memory.ledger import Action, Ledger
from shared_memory.runs import Runs
from shared_memory.settings import Settings
from tests.conftest import NOOP, MakeGoal
from tests.postgrad.test_cli import wait_until
from tests.servers.hub import TOKEN, Fails, HubServer, hub, point_client_at
from tests.servers.jobs import JobsServer, hf_jobs

pytestmark = [
    pytest.mark.usefixtures("noop_jobs"),
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning"),
]
PRICE = 25_000
"""Of `a10g-large`, in micro-dollars a minute."""
ELSEWHERE = ("evaluation", "training", "merge")
"""Purposes of the jobs that run on HF Jobs; rows are written here."""


@pytest.fixture
def hub_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


@pytest.fixture
def server(hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    monkeypatch.setattr(context, "HfRunner", partial(HfRunner, every=0.0))
    with hf_jobs(hub_server, tmp_path / "containers") as served:
        yield served


@pytest.fixture
def goal(make_goal: MakeGoal, recipe: Callable[..., None]) -> Callable[..., Path]:
    """A goal whose jobs are on HF Jobs; by itself it only scores the base model."""
    recipe()

    def make(approve: str = "auto", namespace: str = "", **changes: object) -> Path:
        path = make_goal(**{"approve": approve, "experiments": 0, "usd": 20, **changes})
        path.write_text(path.read_text() + f'on = "hf"\nflavor = "a10g-large"\nnamespace = "{namespace}"\n')
        return path

    return make


def actions_of(settings: Settings, run_id: str) -> list[Action]:
    return Ledger(Database.open(settings.database), run_id).actions()


def billed(server: JobsServer) -> int:
    """What the jobs cost by the service's own record, in micro-dollars."""
    return sum(math.ceil(job.plain()["durations"]["runningSecs"] * PRICE / 60) for job in server.jobs.values())


def spent_of(settings: Settings, run_id: str) -> Any:
    db = Database.open(settings.database)
    return Budget(db, run_id, Goal.model_validate(Runs(db).get(run_id).goal).limits).spent()


def test_a_whole_run_is_on_hf_jobs_with_consent_to_each_and_its_output_comes_home(
    goal: Callable[..., Path], server: JobsServer, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    server.head_start = 90
    asked: list[str] = []

    def decide(requests: list[dict[str, Any]]) -> dict[str, Any]:
        (request,) = requests
        if request["purpose"] in ELSEWHERE:
            assert (request["runner"], request["flavor"], request["secrets"]) == ("hf", "a10g-large", ["HF_TOKEN"])
            worst = request["timeout_seconds"] * PRICE // 60
            assert request["estimate"]["usd_micro"] == request["envelope"]["max_usd_micro"] == worst
            elsewhere = [purpose for purpose in asked if purpose in ELSEWHERE]
            assert len(server.jobs) == len(elsewhere), "nothing is submitted before its approval"
            repos = [repo.commits for repo in server.hub.repos.values()]
            staged = sum(commit.title.startswith("Stage job ") for commits in repos for commit in commits.values())
            assert staged == len(elsewhere), "nothing leaves this machine before its approval"
        assert bool(request["preflight"]) == (request["purpose"] == "training")
        asked.append(request["purpose"])
        return approve_all(requests)

    summary = postgrad.run(goal(approve="ask", experiments=1), decide=decide)

    assert (summary["status"], summary["outcome"]) == ("succeeded", "improved"), summary["error"]
    assert asked == ["evaluation", "generation", "training", "evaluation", "merge", "evaluation"]
    assert [job.stage for job in server.jobs.values()] == ["COMPLETED"] * 5
    assert summary["spent"]["usd"] == billed(server) / 1e6 >= 5 * 90 * PRICE / 60 / 1e6
    paths = settings.run_paths(summary["run_id"])
    assert len([*paths.jobs.glob("*/out/answers.jsonl")]) == 3
    assert Path(summary["champion"]["model"], "quality.json").exists()
    adapter = json.loads((paths.model / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == summary["goal"]["base_model"], "which had another path there"
    staged = server.hub.dataset(f"anna/postgrad-{summary['run_id']}").head.files
    configs = [json.loads(blob.content) for path, blob in staged.items() if path.endswith("/config.json")]
    assert [config["model"] for config in configs if "seed" in config] == ["/job/model"] * 4
    adapters = [path for path in staged if path.split("/")[1:] == ["adapter", "quality.json"]]
    assert len(adapters) == 2, "to be scored, and to be merged"
    kept = [path for path in settings.home.rglob("*") if path.is_file()]
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()], "the token is in no file"
    show_log(settings, summary["run_id"], "e1", follow=False, as_json=False)
    printed = capsys.readouterr().out
    assert '{"result": {"prompts": 25' in printed
    assert TOKEN not in printed


@pytest.mark.slow
def test_a_base_of_the_hub_is_named_at_its_commit_and_fetched_by_the_jobs(
    goal: Callable[..., Path], server: JobsServer, settings: Settings, tiny_model: Path
) -> None:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    repo = server.hub.add("anna/tiny", files, kind="models", private=True)

    summary = postgrad.run(goal(experiments=1), base_model="anna/tiny")

    assert (summary["status"], summary["outcome"]) == ("succeeded", "improved"), summary["error"]
    configs = [json.loads(path.with_name("config.json").read_text()) for path in settings.home.rglob("hf.json")]
    assert {(config["model"], config["revision"]) for config in configs if config["model"] == "anna/tiny"} == {
        ("anna/tiny", repo.head.oid)
    }
    assert len([config for config in configs if config["model"] == "anna/tiny"]) == 4, "all but the merged model's"
    staged = server.hub.dataset(f"anna/postgrad-{summary['run_id']}").head.files
    assert files["model.safetensors"] not in [blob.content for blob in staged.values()], "the base stays where it is"


def test_a_job_reads_a_private_base_with_the_token_that_a_login_left(
    goal: Callable[..., Path], server: JobsServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    repo = server.hub.add("anna/tiny", files, kind="models", private=True)
    monkeypatch.delenv("HF_TOKEN")
    Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN)

    summary = postgrad.run(goal(), base_model="anna/tiny")

    assert summary["status"] == "succeeded", summary["error"]
    assert server.only.spec["secrets"] == {"HF_TOKEN": TOKEN, "POSTGRAD_KEEP_TOKEN": TOKEN}
    staged = server.hub.dataset(f"anna/postgrad-{summary['run_id']}").head.files
    (config,) = [json.loads(blob.content) for path, blob in staged.items() if path.endswith("/config.json")]
    assert (config["model"], config["revision"]) == ("anna/tiny", repo.head.oid)


def test_the_cap_holds_before_anything_leaves_this_machine(goal: Callable[..., Path], server: JobsServer) -> None:
    summary = postgrad.run(goal(usd=1))
    assert summary["status"] == "over_budget", "an hour at worst costs $1.50"
    assert not server.jobs
    assert not server.hub.repos


def test_a_driver_killed_while_its_submission_is_on_the_way_is_followed_by_one_that_adopts_the_job(
    goal: Callable[..., Path], server: JobsServer, settings: Settings
) -> None:
    server.head_start = 90
    run_id = api.open_run(api.as_goal(goal()), settings)
    environment = {**os.environ, "PYTHONPATH": str(NOOP / "site")}
    worker = subprocess.Popen([sys.executable, "-m", "postgrad.worker", run_id], env=environment)

    def kill(request: Any) -> None:
        if request.line == "POST /api/jobs/anna":
            worker.kill()
            worker.wait()

    server.hub.afterwards = kill
    assert worker.wait(60) == -signal.SIGKILL

    summary = postgrad.resume(run_id)
    assert summary["status"] == "succeeded", summary["error"]
    assert len(server.jobs) == 1
    assert [action.attempt for action in actions_of(settings, run_id)] == [1]
    assert summary["spent"]["usd"] == billed(server) / 1e6


def test_a_submission_that_worked_and_was_answered_with_an_error_is_adopted(
    goal: Callable[..., Path], server: JobsServer, settings: Settings
) -> None:
    server.hub.trouble("POST /api/jobs/anna$", Fails(500, afterwards=True))
    summary = postgrad.run(goal())
    assert summary["status"] == "succeeded", summary["error"]
    assert len(server.jobs) == len(actions_of(settings, summary["run_id"])) == 1


@pytest.mark.parametrize("turns_up", [True, False])
def test_a_submission_that_nobody_can_find_parks_the_run_with_its_label_until_a_person_goes_on(
    goal: Callable[..., Path], server: JobsServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, turns_up: bool
) -> None:
    monkeypatch.setattr(HfRunner, "listing_grace", 0.3)
    server.listing_lag = 3600
    server.hub.trouble("POST /api/jobs/anna$", Fails(500, afterwards=True))
    parked = postgrad.run(goal("ask"), decide=approve_all)
    label = server.only.spec["labels"]["postgrad"]
    assert parked["status"] == "failed"
    assert f"look there for the label {label}: resume looks again, then submits it anew" in parked["error"]
    held = spent_of(settings, parked["run_id"]).held_usd_micro
    assert held == 60 * PRICE, "an hour, as long as it may run"

    server.listing_lag = 0 if turns_up else 3600
    resumed = postgrad.resume(parked["run_id"])
    assert resumed["status"] == "succeeded", resumed["error"]
    attempts = [action.attempt for action in actions_of(settings, parked["run_id"])]
    assert (len(server.jobs), attempts) == ((1, [1]) if turns_up else (2, [1, 2]))
    assert spent_of(settings, parked["run_id"]).held_usd_micro == (0 if turns_up else held)


def test_under_auto_it_is_submitted_again_with_both_held_and_the_first_is_ended_when_it_turns_up(
    goal: Callable[..., Path], server: JobsServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HfRunner, "listing_grace", 0.3)
    server.listing_lag, server.head_start = 3600, 90
    server.hub.trouble("POST /api/jobs/anna$", Fails(500, afterwards=True))
    held: list[int] = []

    def look(event: Event) -> None:
        if event.kind == "job" and event.state == "queued":
            held.append(spent_of(settings, event.run_id).held_usd_micro)
            server.listing_lag = 0

    summary = postgrad.run(goal(), on_event=look)

    assert summary["status"] == "succeeded", summary["error"]
    assert held == [2 * 60 * PRICE]
    assert len(server.jobs) == 2
    assert spent_of(settings, summary["run_id"]).held_usd_micro == 0
    assert summary["spent"]["usd"] == billed(server) / 1e6


def test_cancel_ends_the_jobs_where_they_are_an_organisations(
    goal: Callable[..., Path], server: JobsServer, settings: Settings
) -> None:
    server.hub.orgs["acme"] = frozenset({"anna"})
    server.scheduling_seconds = 60

    def stop(event: Event) -> None:
        if event.kind == "job" and event.state == "queued":
            api.cancel(settings, event.run_id)

    summary = postgrad.run(goal(namespace="acme"), on_event=stop)

    assert summary["status"] == "cancelled"
    assert server.hub.asked(f"POST /api/jobs/acme/{server.only.id}/cancel")
    assert wait_until(lambda: server.only.stage == "CANCELED")
    assert [repo for _, repo in server.hub.repos] == [f"acme/postgrad-{summary['run_id']}"]


def test_the_plan_of_a_run_on_hf_jobs_counts_the_dollars_of_every_time_out(
    goal: Callable[..., Path], server: JobsServer
) -> None:
    plan = forecast(read_goal(goal(experiments=2, usd=5)))
    worst = {step.move: step.worst_usd for step in plan.steps if step.jobs}
    assert worst["baseline"] == worst["confirm"] == 1.5
    assert worst["deliver"] == 3
    assert worst["data"] == 0, "rows are written here"
    assert worst["draft"] > 1.5
    assert plan.worst_usd == round(sum(step.worst_usd for step in plan.steps), 2)
    assert any("jobs run on hf: prices of HF Jobs as of now" in note for note in plan.notes)
    assert any("the cap of $5 is reached before all of" in note for note in plan.notes)
    unpaid = forecast(read_goal(goal(usd=0)))
    assert any(
        note.startswith("limits.usd is 0, so this cannot be paid: score the base model") for note in unpaid.notes
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--on", "moon"), "error: the goal: `run.on`: Input should be 'local', 'hf', 'slurm' or 'api'"),
        (("--flavor", "h900"), "error: there is no flavor `h900`; choose one of cpu-basic, a10g-large"),
        (("--on", "local", "--flavor", "h900"), "error: there is no flavor `h900`; choose one of "),
    ],
)
def test_a_place_or_hardware_that_there_is_not_is_said_in_one_line(
    goal: Callable[..., Path],
    server: JobsServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["postgrad", "run", str(goal()), *flags])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("postgrad ")]
    assert [line[: len(words)] for line in told] == [words]
