"""Batches: through Python with jobs that take no time, and through the command line with real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import postgrad
from postgrad.api import answer
from postgrad.batches import Batch, Result, work
from postgrad.batches.means import Means
from postgrad.batches.view import work_in_terminal
from postgrad.decide import approve_all
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.goal import Limits
from shared_memory.ledger import Ledger
from shared_memory.runs import Runs, RunStatus
from shared_memory.settings import Settings
from tests.conftest import NOOP, MakeGoal
from tests.postgrad.test_cli import COMMAND, wait_until

WriteGoals = Callable[..., Path]
QUICK = {"jobs": 1}
"""Limits of a goal that scores the base model, and ends over budget in a second."""


@pytest.fixture
def write_goals(make_goal: MakeGoal, tmp_path: Path) -> WriteGoals:
    """Writes goals.jsonl: a line for each dict (changes of the toy goal) or text (as it is)."""

    def write(*lines: dict[str, Any] | str) -> Path:
        toy = tomllib.loads(make_goal(experiments=1).read_text())
        path = tmp_path / "goals.jsonl"
        with path.open("w") as stream:
            for line in lines:
                if isinstance(line, dict):
                    line = json.dumps({**toy, **line, "limits": toy["limits"] | line.get("limits", {})})
                stream.write(line + "\n")
        return path

    return write


@pytest.fixture
def noop(noop_jobs: None, recipe: Callable[..., None]) -> None:
    recipe()


def attempts(settings: Settings, results: list[Result]) -> list[int]:
    db = Database.open(settings.database)
    return [action.attempt for result in results for action in Ledger(db, result.run_id).actions()]


@pytest.mark.usefixtures("noop")
def test_the_same_batch_again_starts_only_the_goals_that_were_edited(
    write_goals: WriteGoals, settings: Settings
) -> None:
    first, quick = {"text": "the first"}, {"text": "the second", "limits": QUICK}
    told: list[Result] = []
    before = postgrad.batch(write_goals(first, quick, quick), on_result=told.append)

    assert [result.status for result in before] == ["succeeded", "over_budget", "over_budget"]
    assert len({result.run_id for result in before}) == 3, "goals that say the same are goals of their own"
    assert before[0].outcome == "improved"
    assert before[0].champion["score"]["physics"]["score"] > 0.5
    assert Path(before[0].report).exists()
    assert sorted(told, key=lambda result: result.goal) == before

    jobs = attempts(settings, before)
    assert postgrad.batch(write_goals(first, quick, quick)) == before
    assert attempts(settings, before) == jobs
    edited = postgrad.batch(write_goals({"text": "between", "limits": QUICK}, first, quick))
    assert [result.run_id for result in edited[1:]] == [result.run_id for result in before[:2]]
    assert edited[0].run_id not in {result.run_id for result in before}


@pytest.mark.usefixtures("noop")
def test_a_fresh_batch_starts_anew_and_is_then_the_one_that_goes_on(write_goals: WriteGoals) -> None:
    goals = write_goals({"limits": QUICK})
    (old,) = postgrad.batch(goals)
    (new,) = postgrad.batch(goals, fresh=True)

    assert new.run_id != old.run_id
    assert postgrad.batch(goals) == [new]


@pytest.mark.usefixtures("noop")
def test_what_is_wrong_with_a_goal_stays_with_it(write_goals: WriteGoals) -> None:
    results = postgrad.batch(
        write_goals(
            "{no json",
            "",
            "[]",
            '{"text": "x", "txet": "x"}',
            '{"text": "\\ud800"}',
            "[" * 100_000,
            {"base_model": "/nowhere\0"},
            {"base_model": "/nowhere"},
            {"limits": QUICK},
        )
    )

    assert [result.goal.partition(":")[2] for result in results] == ["1", "3", "4", "5", "6", "7", "8", "9"]
    assert results[-1].status == "over_budget"
    assert {result.status for result in results[:-1]} == {RunStatus.FAILED}
    assert not any(result.run_id for result in results[:-1])
    for result, said in zip(results, ["not valid JSON", "no JSON object", "did you mean `text`"], strict=False):
        assert said in result.error
    assert "does not exist" in results[-2].error


@pytest.mark.usefixtures("noop")
def test_an_error_of_ours_is_the_result_of_one_goal_with_its_traceback_on_disk(
    write_goals: WriteGoals, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(work, "summarise", broken)
    failed, other = postgrad.batch(write_goals({"limits": QUICK}, "no json"))

    assert (failed.status, other.error[:13]) == ("failed", "goals.jsonl:2")
    assert "ZeroDivisionError" in failed.error
    (log,) = home.glob("runs/*/worker.log")
    assert "in broken" in log.read_text()


@pytest.mark.usefixtures("noop")
def test_what_decide_raises_parks_the_batch_and_is_raised(write_goals: WriteGoals) -> None:
    def broken(requests: list[Any]) -> bool:
        raise ZeroDivisionError

    goals = write_goals({"run": {"approve": "ask"}, "limits": QUICK})
    with pytest.raises(ZeroDivisionError):
        postgrad.batch(goals, decide=broken)
    assert [result.status for result in postgrad.batch(goals, decide=lambda requests: True)] == ["over_budget"]


@pytest.mark.usefixtures("noop_jobs")
def test_failed_runs_go_on_when_asked_to(
    write_goals: WriteGoals, recipe: Callable[..., None], settings: Settings
) -> None:
    recipe(learning_rate=2)  # diverges
    goals = write_goals({})
    (failed,) = postgrad.batch(goals)
    jobs = attempts(settings, [failed])
    assert failed.status == "failed"
    assert postgrad.batch(goals) == [failed]
    assert attempts(settings, [failed]) == jobs

    (again,) = postgrad.batch(goals, retry_failed=True)
    assert again.run_id == failed.run_id
    assert attempts(settings, [failed]) != jobs


@pytest.mark.usefixtures("noop")
def test_goals_that_nobody_approves_wait_and_go_on_once_they_are_answered(
    write_goals: WriteGoals, settings: Settings
) -> None:
    ask = {"run": {"approve": "ask"}, "limits": QUICK}
    goals = write_goals({"text": "asks", **ask}, {"text": "asks too", **ask}, {"limits": QUICK})
    waiting = postgrad.batch(goals)
    assert [result.status for result in waiting] == ["waiting", "waiting", "over_budget"]

    request = Runs(Database.open(settings.database)).get(waiting[0].run_id).request
    assert request is not None
    answer(settings, waiting[0].run_id, approve_all(request["requests"]))
    assert [result.status for result in postgrad.batch(goals)] == ["over_budget", "waiting", "over_budget"]
    assert postgrad.batch(goals, decide=approve_all)[1].status == "over_budget"


@pytest.mark.usefixtures("noop")
def test_a_run_that_another_batch_drives_is_said_to_be_and_not_driven_twice(write_goals: WriteGoals) -> None:
    goals = write_goals({"run": {"approve": "ask"}, "limits": QUICK})
    asked, go_on = threading.Event(), threading.Event()

    def slow(requests: list[dict[str, Any]]) -> dict[str, Any]:
        asked.set()
        go_on.wait(30)
        return approve_all(requests)

    first = threading.Thread(target=postgrad.batch, args=(goals,), kwargs={"decide": slow})
    first.start()
    assert asked.wait(30)
    (second,) = postgrad.batch(goals, decide=approve_all)
    go_on.set()
    first.join()

    assert "another process drives" in second.error
    assert postgrad.batch(goals)[0].status == "over_budget"


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goals with dollars spend them: jobs of this machine are free, so they only seem to."""
    monkeypatch.setattr(Means, "_costs", lambda means, goal: goal.limits.usd > 0)


@pytest.mark.usefixtures("noop", "paid")
def test_goals_share_the_dollars_of_the_batch_and_never_exceed_them(
    write_goals: WriteGoals, settings: Settings
) -> None:
    db = Database.open(settings.database)
    goals = write_goals(*({"text": f"paid {n}", "limits": {"usd": 6, **QUICK}} for n in range(5)), {"limits": QUICK})
    caps: list[float] = []

    def spend(entry: object, run_id: str) -> None:
        """Three dollars, or what the run may; note what it may, and the worst that all may come to by now."""
        worst = 0
        for row in Runs(db).list():
            limits = Limits.model_validate(row.goal["limits"])
            budget = Budget(db, row.run_id, limits)
            if row.run_id == run_id and limits.usd:
                caps.append(limits.usd)
                budget.reserve("paid", min(3_000_000, limits.usd_micro), role="trainer", jobs=0)
                budget.settle("paid", min(3_000_000, limits.usd_micro))
            spent = budget.spent().usd_micro
            worst += spent if row.ended else max(spent, limits.usd_micro)
        worsts.append(worst)

    worsts: list[int] = []
    results = Batch(goals, settings, budget_usd=10).run(on_start=spend)

    assert {result.status for result in results} == {RunStatus.OVER_BUDGET}
    assert len(caps) == 4, "a goal gets what is left, and what comes back"
    assert (min(caps), max(caps)) == (1, 6)
    assert max(worsts) <= 10_000_000
    assert sum(result.spent.get("usd", 0) for result in results) == 10
    (refused,) = (result for result in results if not result.run_id)
    assert "--budget-usd" in refused.error
    assert results[-1].run_id, "a goal that needs no dollars runs without"
    assert all(result.run_id for result in Batch(goals, settings, budget_usd=13).run(on_start=spend))
    assert caps[-1] == 3


@pytest.mark.usefixtures("noop", "paid")
def test_a_goal_that_waits_keeps_its_dollars(write_goals: WriteGoals, settings: Settings) -> None:
    goals = write_goals({"run": {"approve": "ask"}, "limits": {"usd": 6, **QUICK}}, {"limits": {"usd": 6, **QUICK}})

    waits, refused = postgrad.batch(goals, budget_usd=6, concurrency=1)
    assert (waits.status, refused.run_id) == ("waiting", "")
    lowered, _ = postgrad.batch(goals, budget_usd=5, decide=approve_all)
    assert (lowered.status, lowered.run_id) == ("over_budget", waits.run_id)
    assert [result.status for result in postgrad.batch(goals, budget_usd=12, decide=approve_all)] == ["over_budget"] * 2
    assert attempts(settings, [waits])


@pytest.mark.usefixtures("noop_jobs")
@pytest.mark.slow
def test_the_hours_of_the_batch_end_what_still_runs_and_start_nothing_more(
    write_goals: WriteGoals, recipe: Callable[..., None], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "BEAT_SECONDS", 0.2)
    recipe(learning_rate=11)  # trains until it is stopped
    goals = write_goals({"run": {"approve": "ask"}})
    (waits,) = postgrad.batch(goals)
    (ended,) = postgrad.batch(goals, decide=approve_all, hours=6 / 3600)

    assert (waits.status, ended.status) == ("waiting", "timed_out")
    assert ended.run_id == waits.run_id
    assert "the batch's" in ended.error
    assert Ledger(Database.open(settings.database), ended.run_id).actions()[-1].purpose == "training"
    assert not Ledger(Database.open(settings.database), ended.run_id).open_actions()

    (late,) = postgrad.batch(write_goals({"text": "too late"}), hours=6 / 3600)
    assert (late.status, late.run_id) == ("timed_out", "")
    (more,) = postgrad.batch(goals := write_goals({"text": "late", "limits": QUICK}), hours=60 / 3600)
    assert Runs(Database.open(settings.database)).get(more.run_id).goal["limits"]["hours"] < 60 / 3600


@pytest.mark.usefixtures("noop")
def test_a_long_batch_leaves_no_files_threads_or_memory_behind(write_goals: WriteGoals) -> None:
    process = psutil.Process()

    def left_after(*numbers: int) -> tuple[int, int, float]:
        goals = write_goals(*({"text": f"goal {number}", "limits": QUICK} for number in numbers))
        results = postgrad.batch(goals, concurrency=2)
        assert {result.status for result in results} == {RunStatus.OVER_BUDGET}
        return process.num_fds(), process.num_threads(), process.memory_info().rss / 2**20

    files, threads, memory = left_after(*range(3))
    files_later, threads_later, memory_later = left_after(*range(3, 15))

    assert files_later - files < 8, "not one for each goal; Matplotlib keeps two fonts open for each thread"
    assert threads_later - threads < 4
    assert memory_later - memory < 24


def test_what_is_no_batch_is_said_in_one_line(tmp_path: Path, write_goals: WriteGoals) -> None:
    (tmp_path / "empty").mkdir()
    for goals, options, said in (
        (tmp_path / "absent.jsonl", {}, "cannot be read"),
        (tmp_path / "empty", {}, "no goals"),
        ([], {}, "no goals"),
        (write_goals({}), {"concurrency": 0}, "--concurrency"),
        (write_goals({}), {"budget_usd": -1.0}, "--budget-usd"),
        (write_goals({}), {"hours": float("nan")}, "--hours"),
    ):
        with pytest.raises(BadInput, match=said):
            postgrad.batch(goals, **options)


@pytest.mark.slow
def test_a_batch_that_is_parked_and_killed_again_and_again_loses_nothing(
    write_goals: WriteGoals, settings: Settings
) -> None:
    goals = write_goals({"text": "one"}, {"text": "two", "limits": QUICK}, {"text": "three", "limits": QUICK})
    environment = {**os.environ, "PYTHONPATH": str(NOOP / "site")}

    def start() -> subprocess.Popen[str]:
        command = [*COMMAND, "batch", str(goals), "--json"]
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    jobs = 0
    for signum, code in ((signal.SIGTERM, 130), (signal.SIGKILL, -9), (signal.SIGINT, 130)):
        process = start()
        wait_until(lambda jobs=jobs: len(all_actions(settings)) > jobs)
        process.send_signal(signum)
        said, told = process.communicate(timeout=60)
        assert process.returncode == code, told
        assert "Traceback" not in told
        jobs = len(all_actions(settings))

    said, told = start().communicate(timeout=90)
    lines = [json.loads(line) for line in said.splitlines()]
    assert sorted((line["goal"], line["status"]) for line in lines) == [
        ("goals.jsonl:1", "succeeded"),
        ("goals.jsonl:2", "over_budget"),
        ("goals.jsonl:3", "over_budget"),
    ]
    actions = all_actions(settings)
    assert len(actions) == len(set(actions))
    assert {attempt for *_, attempt in actions} == {1}


def test_more_signals_change_nothing_about_a_batch_that_is_parking(write_goals: WriteGoals, settings: Settings) -> None:
    process = subprocess.Popen(
        [*COMMAND, "batch", str(write_goals({"text": "one"}, {"text": "two"}))],
        env={**os.environ, "PYTHONPATH": str(NOOP / "site")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: all_actions(settings))
    for signum in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        process.send_signal(signum)
        time.sleep(0.1)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "parking: " in told
    assert "Traceback" not in told
    assert "RuntimeError" not in told
    rows = Runs(Database.open(settings.database)).list()
    assert {(row.status, row.error) for row in rows} == {(RunStatus.INTERRUPTED, "")}


def all_actions(settings: Settings) -> list[tuple[object, ...]]:
    if not settings.database.exists():
        return []
    rows = Database.open(settings.database).execute(
        "SELECT run_id, experiment, purpose, spec_digest, attempt FROM actions"
    )
    return [tuple(row) for row in rows]


@pytest.mark.usefixtures("noop")
def test_a_folder_of_goals_is_one_line_each_and_those_that_wait_are_listed_with_their_command(
    make_goal: MakeGoal, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "goals"
    folder.mkdir()
    (folder / "asks.toml").write_text(make_goal(approve="ask").read_text())
    (folder / "bad.toml").write_text("text = \n")
    (folder / "quick.toml").write_text(make_goal(jobs=1).read_text())
    code = work_in_terminal(Batch(folder, settings, concurrency=1), as_json=True)
    said, told = capsys.readouterr()

    assert code == 3, told
    lines = [json.loads(line) for line in said.splitlines()]
    assert [(line["goal"], line["status"]) for line in lines] == [
        ("asks.toml", "waiting"), ("bad.toml", "failed"), ("quick.toml", "over_budget"),
    ]  # fmt: skip
    keys = ["run_id", "goal", "status", "outcome", "champion", "spent", "report", "error"]
    assert [list(line) for line in lines] == [keys] * 3
    assert f"postgrad approve {lines[0]['run_id']}" in told
    assert "not valid TOML" in told


def test_a_batch_without_a_goal_that_can_be_read_ends_with_2_and_a_table(
    write_goals: WriteGoals, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work_in_terminal(Batch(write_goals("no json", "neither"), settings), as_json=False) == 2
    assert "goals.jsonl:2" in capsys.readouterr().out


def test_what_a_tool_prints_is_not_among_the_lines_of_json(
    write_goals: WriteGoals, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    class WithATool(Batch):
        def run(self, *args: Any, **told: Any) -> list[Result]:
            print("a tool says hello")
            return super().run(*args, **told)

    assert work_in_terminal(WithATool(write_goals("no json", "neither"), settings), as_json=True) == 2
    said, told = capsys.readouterr()
    assert [json.loads(line)["status"] for line in said.splitlines()] == ["failed", "failed"]
    assert "a tool says hello" in told
