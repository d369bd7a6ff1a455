"""The command line, through real processes; the jobs take no time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared_memory.database import Database
from shared_memory.lease import holder
from shared_memory.ledger import Ledger
from shared_memory.settings import Settings
from tests.conftest import NOOP, MakeGoal

Cli = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = [sys.executable, "-m", "postgrad"]


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(NOOP / "site")}


@pytest.fixture
def cli(home: Path, tmp_path: Path) -> Cli:
    """Calls the command line in an empty folder, with jobs that take no time and the environment of that moment."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, *map(str, arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(NOOP / "site")},
            cwd=tmp_path,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    return call


def only_run(settings: Settings) -> str:
    (row,) = Database.open(settings.database).execute("SELECT run_id FROM runs")
    return str(row["run_id"])


def wait_until(true: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def has_event(settings: Settings, run_id: str, kind: str, **fields: object) -> bool:
    path = settings.run_paths(run_id).events
    if not path.exists():
        return False
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return any(e["kind"] == kind and all(e.get(k) == v for k, v in fields.items()) for e in events)


def test_run_prints_one_json_document_and_everything_else_on_stderr(cli: Cli, make_goal: MakeGoal) -> None:
    done = cli("run", make_goal(), "--json")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["outcome"] == "improved"
    assert "baseline" in done.stderr
    for command in (["show", "last"], ["runs"], ["report", "last"], ["logs", "last"], ["resume", "last"]):
        told = cli(*command, "--json")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)


def test_a_run_parks_at_a_gate_and_approve_goes_on_to_the_next(
    cli: Cli, make_goal: MakeGoal, settings: Settings
) -> None:
    parked = cli("run", make_goal(approve="ask", experiments=1))
    assert parked.returncode == 3, parked.stderr
    assert "postgrad approve" in parked.stderr

    codes = [cli("approve", "last").returncode for _ in range(6)]
    assert codes == [3, 3, 3, 3, 3, 0]
    assert cli("approve", "last").returncode == 2


@pytest.mark.slow
def test_a_rejection_reaches_the_report(cli: Cli, make_goal: MakeGoal) -> None:
    cli("run", make_goal(approve="ask"))
    rejected = cli("approve", "last", "--reject", "not today", "--json")

    assert rejected.returncode == 6, rejected.stderr
    assert "not today" in cli("show", "last", "--json").stdout + cli("report", "last", "--json").stdout


@pytest.mark.slow
def test_ctrl_c_parks_the_run_and_resume_ends_it(
    environment: dict[str, str], cli: Cli, make_goal: MakeGoal, settings: Settings
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", str(make_goal())], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: settings.database.exists() and Database.open(settings.database).execute("SELECT 1 FROM leases"))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130

    run_id = only_run(settings)
    assert holder(Database.open(settings.database), run_id) is None
    assert cli("resume", run_id).returncode == 0


@pytest.mark.slow
def test_a_killed_worker_is_reported_and_resume_submits_nothing_twice(
    environment: dict[str, str], cli: Cli, make_goal: MakeGoal, settings: Settings
) -> None:
    assert cli("run", make_goal(), "--detach").returncode == 0
    run_id = only_run(settings)
    wait_until(lambda: has_event(settings, run_id, "move", move="candidate"))
    lease = wait_until(lambda: holder(Database.open(settings.database), run_id))
    os.kill(lease.pid, signal.SIGKILL)

    assert cli("attach", run_id).returncode == 130
    assert cli("resume", run_id).returncode == 0
    actions = Ledger(Database.open(settings.database), run_id).actions()
    assert len(actions) == len({(a.experiment, a.purpose, a.spec_digest) for a in actions})
    assert {action.attempt for action in actions} == {1}


@pytest.mark.slow
def test_of_two_resumes_one_drives_and_the_other_attaches(
    environment: dict[str, str], cli: Cli, make_goal: MakeGoal, settings: Settings
) -> None:
    assert cli("run", make_goal(approve="ask")).returncode == 3
    run_id = only_run(settings)
    Database.open(settings.database).execute("UPDATE runs SET goal = replace(goal, '\"ask\"', '\"auto\"')")
    cli("approve", run_id, "--detach")
    both = [
        subprocess.Popen(
            [*COMMAND, "resume", run_id], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    codes = [process.wait(90) for process in both]
    assert set(codes) <= {0, 3}
    actions = Ledger(Database.open(settings.database), run_id).actions()
    assert {action.attempt for action in actions} == {1}


def test_cancel_ends_a_waiting_run(cli: Cli, make_goal: MakeGoal, settings: Settings) -> None:
    cli("run", make_goal(approve="ask"))
    assert cli("cancel", "last").returncode == 0
    run_id = only_run(settings)
    wait_until(lambda: json.loads(cli("show", run_id, "--json").stdout)["status"] == "cancelled")
    assert cli("cancel", "last").returncode == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "/nowhere/model"}, "does not exist"),
        ({"benchmark": "/nowhere/items.jsonl"}, "does not exist"),
        ({"generator": "/nowhere/generator.py"}, "does not exist"),
        ({"model": "nobody/nothing"}, "not in the local cache"),
        ({"approve": "perhaps"}, "run.approve"),
        ({"jobs": -1}, "limits.jobs"),
    ],
)
def test_a_goal_that_cannot_be_worked_on_is_one_line_and_exit_2(
    cli: Cli, make_goal: MakeGoal, home: Path, change: dict[str, object], said: str
) -> None:
    refused = cli("run", make_goal(**change))

    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (home / "runs").exists()


def test_training_data_that_is_not_what_it_claims_is_refused_before_any_job(
    cli: Cli, make_goal: MakeGoal, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\nno json here\n')
    refused = cli("run", make_goal(data=f'["{rows}"]'))

    assert refused.returncode == 2
    assert "line 2" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """The home on a file system of its own with very little room."""
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(home)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield home
    subprocess.run(["umount", "--lazy", str(home)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_and_resume_goes_on_when_there_is_room(
    small_disk: Path, cli: Cli, make_goal: MakeGoal
) -> None:
    full = cli("run", make_goal(experiments=1))
    assert full.returncode == 1, full.stderr
    assert "disk" in full.stderr
    assert "resume" in full.stderr
    assert "Traceback" not in full.stderr

    subprocess.run(["mount", "-o", "remount,size=200M", str(small_disk)], check=True)
    assert cli("resume", "last").returncode == 0


def test_malformed_toml_and_unknown_keys_say_where(cli: Cli, tmp_path: Path) -> None:
    goal = tmp_path / "bad.toml"
    goal.write_text('text = "x"\n[limits]\nhuors = 3\n')
    unknown = cli("run", goal)
    goal.write_text("text = \n")
    malformed = cli("run", goal)

    assert unknown.returncode == malformed.returncode == 2
    assert "did you mean `hours`?" in unknown.stderr
    assert "line 1" in malformed.stderr
    assert cli("run", tmp_path / "absent.toml").returncode == 2


def test_init_writes_a_goal_that_reads_back(cli: Cli, tmp_path: Path) -> None:
    flags = ("--text", 'say "hi"', "--base-model", "org/model", "--data", "rows.jsonl", "--benchmark", "items.jsonl")
    assert cli("init", "mine.toml", *flags).returncode == 0
    from shared_memory.goal_reading import read_goal

    goal = read_goal(tmp_path / "mine.toml")
    assert goal.text == 'say "hi"'
    assert goal.data.train == (str(tmp_path / "rows.jsonl"),)
    assert cli("init", "mine.toml", *flags).returncode == 2, "a goal file is never overwritten"
    assert "--data" in cli("init", "other.toml", *flags[:4]).stderr
    assert cli("init", "held_out.toml", *flags[:-2]).returncode == 0
    assert read_goal(tmp_path / "held_out.toml").benchmark == (), "without a benchmark, rows are held out"


def test_doctor_examines_this_machine(cli: Cli) -> None:
    examined = cli("doctor", "--json")
    checks = {check["name"]: check["status"] for check in json.loads(examined.stdout)}
    assert checks["agents"] == checks["train"] == checks["eval"] == "ok"
    assert cli("show", "nothing").returncode == 2
