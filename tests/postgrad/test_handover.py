"""A run passed from hand to hand: detached, followed from another terminal, parked by a signal, cancelled mid-job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from postgrad.api import start_worker
from shared_memory.database import Database
from shared_memory.lease import holder
from shared_memory.ledger import Ledger
from shared_memory.runs import Runs
from shared_memory.settings import Settings
from tests.conftest import NOOP, MakeGoal
from tests.postgrad.test_cli import COMMAND, Cli, cli, has_event, only_run, wait_until  # noqa: F401 - a fixture

SLOW = """
[[recipe]]
id = "slow"
fits = { min_m = 0, max_m = 1000 }
method = "sft"
learning_rate = 20.0
batch = 8
micro_batch = 8
train_rows = 40
findings = ["f"]
[[finding]]
id = "f"
claim = "its no-op training takes until it is stopped"
source = "this test"
"""


@pytest.fixture
def slow_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training jobs that print progress until they are stopped."""
    library = tmp_path / "slow.toml"
    library.write_text(SLOW)
    monkeypatch.setenv("NOOP_RECIPES", str(library))
    monkeypatch.setenv("PYTHONPATH", str(NOOP / "site"))


def training_runs(settings: Settings, run_id: str) -> bool:
    return has_event(settings, run_id, "progress", purpose="training")


@pytest.mark.usefixtures("slow_training")
@pytest.mark.slow
def test_a_detached_run_is_followed_from_another_terminal_parked_by_a_signal_and_cancelled(
    cli: Cli,  # noqa: F811
    make_goal: MakeGoal,
    settings: Settings,
) -> None:
    started = cli("run", make_goal(), "--detach", "--json")
    run_id = json.loads(started.stdout)["run_id"]
    wait_until(lambda: training_runs(settings, run_id))

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    logs = subprocess.Popen([*COMMAND, "logs", run_id, "-f"], **pipes)  # type: ignore[call-overload]
    attached = subprocess.Popen([*COMMAND, "attach", run_id], **pipes)  # type: ignore[call-overload]
    assert '"step"' in logs.stdout.readline(), "the log is followed while the job runs"

    lease = wait_until(lambda: holder(Database.open(settings.database), run_id))
    os.kill(lease.pid, signal.SIGTERM)
    _, shown = attached.communicate(timeout=60)
    assert attached.returncode == 130, shown
    assert "baseline on physics" in shown, "attaching shows the run from its first event"
    assert "parked" in shown
    assert Runs(Database.open(settings.database)).get(run_id).status == "interrupted"

    (job,) = [a for a in Ledger(Database.open(settings.database), run_id).actions() if a.purpose == "training"]
    assert job.job is None, "a parked run's job goes on"
    assert cli("cancel", run_id).returncode == 0
    wait_until(lambda: Runs(Database.open(settings.database)).get(run_id).status == "cancelled")
    logs.communicate(timeout=60)
    assert logs.returncode == 0, "the log ends with its job"
    (job,) = [a for a in Ledger(Database.open(settings.database), run_id).actions() if a.purpose == "training"]
    assert job.job is not None
    assert job.job.state == "cancelled"


@pytest.mark.usefixtures("slow_training")
@pytest.mark.slow
def test_a_signal_to_the_terminal_parks_the_run_and_another_worker_takes_its_job_up(
    cli: Cli,  # noqa: F811
    make_goal: MakeGoal,
    settings: Settings,
) -> None:
    terminal = subprocess.Popen(
        [*COMMAND, "run", str(make_goal())], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: settings.database.exists() and Database.open(settings.database).execute("SELECT 1 FROM runs"))
    run_id = only_run(settings)
    wait_until(lambda: training_runs(settings, run_id))
    terminal.send_signal(signal.SIGINT)
    assert terminal.wait(60) == 130

    start_worker(settings, run_id)
    wait_until(lambda: holder(Database.open(settings.database), run_id))
    assert cli("cancel", run_id, "--json").returncode == 0
    wait_until(lambda: Runs(Database.open(settings.database)).get(run_id).status == "cancelled")
    jobs = [a for a in Ledger(Database.open(settings.database), run_id).actions() if a.purpose == "training"]
    assert [action.attempt for action in jobs] == [1], "the job was taken up, not started again"
