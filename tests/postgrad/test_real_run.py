"""Whole runs with nothing replaced: a tiny model, TRL, inspect-ai, SQLite, and a worker that is really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared_memory.database import Database
from shared_memory.lease import holder
from shared_memory.ledger import Ledger
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import COMMAND, has_event, wait_until


def postgrad(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_run_killed_during_training_ends_as_if_it_had_not_been(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path
) -> None:
    goal = make_goal(experiments=1, report_to='["trackio"]')
    whole = postgrad("run", goal, "--json")
    assert whole.returncode == 0, whole.stderr
    expected = json.loads(whole.stdout)

    started = postgrad("run", goal, "--detach", "--json")
    run_id = json.loads(started.stdout)["run_id"]
    wait_until(lambda: has_event(settings, run_id, "job", purpose="training", state="running"), 240)
    lease = wait_until(lambda: holder(Database.open(settings.database), run_id))
    os.kill(lease.pid, signal.SIGKILL)
    resumed = postgrad("resume", run_id, "--json")
    assert resumed.returncode == 0, resumed.stderr

    told = json.loads(resumed.stdout)
    assert verdict_of(told) == verdict_of(expected)
    actions = Ledger(Database.open(settings.database), run_id).actions()
    assert {action.attempt for action in actions} == {1}
    assert len(list(settings.run_paths(run_id).jobs.iterdir())) == len(actions)
    assert_loads_and_reports(settings, expected)


def verdict_of(summary: dict[str, Any]) -> dict[str, Any]:
    experiments = [(e["id"], e["status"], e["verdict"]) for e in summary["experiments"]]
    champion = {key: value for key, value in summary["champion"].items() if key != "model"}
    return {key: summary[key] for key in ("status", "outcome", "baseline")} | {"champion": champion, "all": experiments}


def assert_loads_and_reports(settings: Settings, summary: dict[str, Any]) -> None:
    report = settings.run_paths(summary["run_id"])
    assert "<svg" in report.report_html.read_text()
    assert summary["experiments"][0]["status"] == "evaluated"
    jobs = report.jobs
    adapter = next(jobs.glob("*/out/adapter/adapter_config.json")).parent
    code = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer; from peft import PeftModel; import sys\n"
        "base, adapter = sys.argv[1:]\n"
        "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)\n"
        "assert AutoTokenizer.from_pretrained(base)('a').input_ids\n"
    )
    base = json.loads(next(jobs.glob("*/train.py")).parent.joinpath("config.json").read_text())["model"]
    subprocess.run([sys.executable, "-c", code, base, str(adapter)], check=True, timeout=120)
