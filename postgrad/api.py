"""The Python face: open a run, drive it in this process, and answer its gates with a callable."""

from __future__ import annotations

import os
import queue
import socket
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

import psutil

from postgrad.decide import Decide
from postgrad.events import Event
from postgrad.session import Session, Summary
from postgrad.session import summary as summary
from shared_memory.database import Database
from shared_memory.errors import BadInput, Conflict
from shared_memory.goal import Goal
from shared_memory.goal_reading import parse_goal, read_goal
from shared_memory.lease import holder
from shared_memory.runs import RunRow, Runs, RunStatus, new_run_id
from shared_memory.settings import Settings, load_settings

AnyGoal = Goal | Mapping[str, Any] | str | Path
"""A Goal, the tables of a goal file as a dict, or the path of a goal file."""


class Overrides(TypedDict, total=False):
    """What may be laid over a goal, under the names of the command line's flags; None leaves what the goal says."""

    text: str | None
    base_model: str | None
    revision: str | None
    method: str | None
    data: str | Path | Sequence[str | Path] | None
    """Files to train on."""
    benchmark: str | Path | Sequence[Mapping[str, Any]] | None
    """A file or a name; or `[[benchmark]]` tables."""
    usd: float | None
    hours: float | None
    jobs: int | None
    experiments: int | None
    llm_tokens: int | None
    approve: str | None
    """ask | paid | auto"""
    on: str | None
    """local | hf | slurm"""
    flavor: str | None
    script: str | Path | None
    """A training script of one's own."""
    distill_from: str | None
    parallel: int | None
    seed: int | None
    report_to: Sequence[str] | None
    push_to: str | None
    sandbox: str | None
    """auto | none"""
    brain: str | None
    """Of all roles."""


_SECTIONS = {
    "usd": "limits", "hours": "limits", "jobs": "limits", "experiments": "limits", "llm_tokens": "limits",
    "approve": "run", "on": "run", "flavor": "run", "script": "run", "parallel": "run", "seed": "run",
    "report_to": "run", "sandbox": "run", "push_to": "output",
}  # fmt: skip
"""Option → the section of the goal file that it stands in."""


def run(
    goal: AnyGoal,
    *,
    decide: Decide | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
    **overrides: Unpack[Overrides],
) -> Summary:
    """Work on a goal until it ends or waits, and return the summary (the JSON of `postgrad run --json`).

    decide: answers each gate, a list of Requests, with True or False for all of them, with {digest: Answer}, or with
    None to leave the run waiting. Without it the goal's own policy (`approve = "auto"` or `"paid"`) answers, and what
    that may not answer leaves the run waiting. Both callables are called in another thread; what they raise parks the
    run, and is raised here.

    Raises BadInput for a goal that cannot be worked on.
    """
    settings = settings or load_settings()
    run_id = open_run(as_goal(goal, **overrides), settings)
    return _drive(Session(settings, run_id, decide, on_event))


def resume(
    run_id: str,
    *,
    decide: Decide | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
) -> Summary:
    """Go on with a run that was parked, killed, or failed, and return its summary; an ended one is only summarised.

    run_id: its id, the beginning of it, or `last`. Raises Conflict where another process drives the run, BadInput for
    an unknown one.
    """
    settings = settings or load_settings()
    row = ready_to_go_on(settings, run_id)
    if row.status is RunStatus.SUCCEEDED:
        return summary(settings, row.run_id)
    return _drive(Session(settings, row.run_id, decide, on_event))


def stream(
    goal: AnyGoal, *, decide: Decide | None = None, settings: Settings | None = None, **overrides: Unpack[Overrides]
) -> Generator[Event, None, None]:
    """The same as `run`, as a generator of its events while it works; closing it parks the run."""
    settings = settings or load_settings()
    run_id = open_run(as_goal(goal, **overrides), settings)
    events: queue.Queue[Event | None] = queue.Queue()
    session = Session(settings, run_id, decide, events.put)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgrad-stream") as pool:
        driving = pool.submit(session.drive)
        driving.add_done_callback(lambda _: events.put(None))
        try:
            while (event := events.get()) is not None:
                yield event
            driving.result()
        finally:
            session.park()


def show(run_id: str = "last", *, settings: Settings | None = None) -> Summary:
    """The summary of a run as it stands, driven or not. Raises BadInput for an unknown one."""
    return summary(settings or load_settings(), run_id)


def as_goal(goal: AnyGoal, **overrides: Unpack[Overrides]) -> Goal:
    """A Goal with absolute paths, from a record or a file, with flags laid over it.

    Raises BadInput for an unknown override.
    """
    if isinstance(goal, Mapping):
        table = parse_goal(dict(goal), folder=Path.cwd()).plain()
    else:
        table = (goal if isinstance(goal, Goal) else read_goal(Path(goal))).plain()
    for key, value in overrides.items():
        if value is None:
            continue
        if key in _SECTIONS:
            table[_SECTIONS[key]][key] = str(value) if isinstance(value, Path) else value
        elif key in ("base_model", "method", "revision", "text", "distill_from"):
            table[key] = value
        elif key == "data":
            files = [value] if isinstance(value, str | Path) else cast("Sequence[str | Path]", value)
            table["data"]["train"] = [str(file) for file in files]
        elif key == "benchmark":
            table["benchmark"] = [benchmark_table(value)] if isinstance(value, str | Path) else value
        elif key == "brain":
            table["brain"]["default"] = value
        else:
            known = ", ".join(sorted(Overrides.__annotations__))
            raise BadInput(f"`{key}` is no option of a run; known: {known}")
    return parse_goal(table, folder=Path.cwd())


def benchmark_table(benchmark: str | Path) -> dict[str, Any]:
    """The `[[benchmark]]` table of a name of the registry, a file, a folder, or a data set on the Hub."""
    from agents.evaluator.benchmarks.registry import entries

    given = str(benchmark)
    if given in entries():
        return {"name": given}
    if given.startswith("hf://"):
        return {"path": given}
    path = Path(benchmark).expanduser()
    return {"path": str(path)} if path.suffix or "/" in given or path.exists() else {"name": given}


def open_run(goal: Goal, settings: Settings) -> str:
    """Check a goal, register a run for it and make its folder; returns the run's id.

    Raises BadInput where the goal cannot be worked on: then nothing is registered.
    """
    from graph.intake import check_goal

    check_goal(goal, brain=settings.brain)
    run_id = new_run_id(goal.text)
    Runs(Database.open(settings.database)).create(run_id, goal, time.time())
    settings.run_paths(run_id).root.mkdir(parents=True, exist_ok=True)
    return run_id


def ready_to_go_on(settings: Settings, run_id: str) -> RunRow:
    """The run, if it may be driven from here; an earlier wish to cancel it is taken back."""
    runs = Runs(Database.open(settings.database))
    row = runs.get(run_id)
    if row.driver == "studio":
        raise BadInput(f"run {row.run_id} belongs to LangGraph Studio; go on with it there")
    if row.status is RunStatus.CANCELLED:
        row = runs.update(row.run_id, cancel_requested=False)
    return row


def start_worker(settings: Settings, run_id: str) -> int:
    """Start a worker for the run in the background, detached from this terminal; returns its process id."""
    runs = Runs(Database.open(settings.database))
    runs.update(run_id, ended=None)  # `attach` gives a row that was touched lately time for its worker to come up
    if runs.get(run_id).status is RunStatus.INTERRUPTED:
        runs.update(run_id, status=RunStatus.RUNNING)
    log = str(settings.run_paths(run_id).worker_log)
    # -P: the folder that one stands in may hold packages called `agents` or `graph`, too.
    command = [sys.executable, "-P", "-m", "postgrad.worker", run_id]
    return os.posix_spawn(
        sys.executable,
        command,
        {**os.environ, "POSTGRAD_HOME": str(settings.home)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def answer(settings: Settings, run_id: str, decisions: dict[str, Any]) -> None:
    """Leave a person's answer for the worker.

    Raises Conflict for an answer to something that is not being asked (any more).
    """
    runs = Runs(Database.open(settings.database))
    row = runs.get(run_id)
    asked = {request["digest"] for request in (row.request or {}).get("requests", [])}
    foreign = decisions.keys() - asked
    if foreign:
        raise Conflict(
            f"the answer is to something that run {row.run_id} does not ask (any more); "
            f"`postgrad show {row.run_id}` tells what it does"
        )
    runs.put_answer(row.run_id, decisions)


def cancel(settings: Settings, run_id: str) -> RunRow:
    """Ask for the run's end: its worker, started where none lives, stops the jobs and keeps the best model."""
    db = Database.open(settings.database)
    runs = Runs(db)
    row = runs.get(run_id)
    if row.status in (RunStatus.SUCCEEDED, RunStatus.CANCELLED, RunStatus.OVER_BUDGET, RunStatus.TIMED_OUT):
        raise Conflict(f"run {row.run_id} has ended already ({row.status}); `postgrad show {row.run_id}` tells how")
    runs.request_cancel(row.run_id)
    if row.driver == "worker" and holder(db, row.run_id) is None:
        if row.request is not None and row.answer is None:
            runs.put_answer(row.run_id, {})
        start_worker(settings, row.run_id)
    return runs.get(row.run_id)


def park(settings: Settings, run_id: str) -> None:
    """Ask the run's worker on this machine to stop after the step it is in; jobs go on.

    A run that a Python program drives is left alone: the signal would end that whole program.
    """
    row = holder(Database.open(settings.database), run_id)
    if row is None or row.host != socket.gethostname():
        return
    with suppress(psutil.Error):
        process = psutil.Process(row.pid)
        if "postgrad.worker" in process.cmdline():
            process.terminate()


def _drive(session: Session) -> Summary:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgrad") as pool:
        driving = pool.submit(session.drive)
        try:
            return driving.result()
        except BaseException:
            session.park()  # Ctrl-C reaches this thread only: the run ends its step, and stays resumable
            raise
