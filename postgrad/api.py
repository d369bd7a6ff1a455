"""The Python face: open a run, drive it in this process, and answer its gates with a callable."""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from postgrad.worker import Decide, Driver, Event
from shared_memory.database import Database
from shared_memory.errors import BadInput, Conflict
from shared_memory.goal import Goal, parse_goal, read_goal
from shared_memory.lease import holder
from shared_memory.runs import RunRow, Runs, RunStatus, new_run_id
from shared_memory.settings import Settings, load_settings

Summary = dict[str, Any]
"""The JSON of `postgrad run --json`."""


def approve_all(requests: list[dict[str, Any]]) -> dict[str, Any]:
    """A `decide` that says yes to everything that is asked."""
    return {request["digest"]: {"approved": True} for request in requests}


def run(
    goal: Goal | str | Path,
    *,
    decide: Decide | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
    **overrides: Any,
) -> Summary:
    """Work on a goal until it ends or waits, and return the summary (the JSON of `postgrad run --json`).

    goal: a Goal, or the path of a goal file. overrides: `approve`, `usd`, `hours`, … as the command line's flags.
    decide: answers each gate, a list of requests (dicts with digest, title, config, estimate, …), with
    {digest: {"approved": bool, "reason": str}}; None parks the run. Without `decide`, the goal's own policy
    (`approve = "auto"` or `"paid"`) answers, and what it may not answer leaves the run waiting.

    Raises BadInput for a goal that cannot be worked on.
    """
    settings = settings or load_settings()
    run_id = open_run(as_goal(goal, **overrides), settings)
    return _drive(settings, run_id, decide, on_event)


def resume(
    run_id: str,
    *,
    decide: Decide | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
) -> Summary:
    """Go on with a run that was parked, killed, or failed, and return its summary; an ended one is only summarised.

    Raises Conflict where another process drives it, BadInput for an unknown run.
    """
    settings = settings or load_settings()
    row = ready_to_go_on(settings, run_id)
    return (
        _drive(settings, row.run_id, decide, on_event)
        if row.status is not RunStatus.SUCCEEDED
        else summary(settings, row.run_id)
    )


def stream(
    goal: Goal | str | Path, *, decide: Decide | None = None, settings: Settings | None = None, **overrides: Any
) -> Iterator[Event]:
    """The same as `run`, as an iterator over its events (dicts with `at` and `kind`) while it works."""
    settings = settings or load_settings()
    run_id = open_run(as_goal(goal, **overrides), settings)
    events: queue.Queue[Event | BaseException | None] = queue.Queue()
    driver = Driver(settings, run_id, events.put)

    def work() -> None:
        try:
            driver.drive(decide)
            events.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            events.put(error)

    thread = threading.Thread(target=work, name="postgrad-stream", daemon=True)
    thread.start()
    try:
        while (event := events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        driver.park()
        thread.join()


def as_goal(goal: Goal | str | Path, **overrides: Any) -> Goal:
    """A Goal with absolute paths, from a record or a file, with flags laid over it.

    Raises BadInput for an unknown override.
    """
    read = goal if isinstance(goal, Goal) else read_goal(Path(goal))
    table = read.plain()
    homes = {
        "usd": "limits", "hours": "limits", "jobs": "limits", "experiments": "limits", "llm_tokens": "limits",
        "approve": "run", "on": "run", "seed": "run", "report_to": "run", "push_to": "output",
    }  # fmt: skip
    for key, value in overrides.items():
        if value is None:
            continue
        if key in homes:
            table[homes[key]][key] = value
        elif key in ("base_model", "method", "revision", "text"):
            table[key] = value
        elif key == "data":
            table["data"]["train"] = value
        elif key == "benchmark":
            table["benchmark"] = value
        elif key == "brain":
            table["brain"]["default"] = value
        else:
            raise BadInput(
                f"`{key}` is no option of a run; known: {', '.join(sorted([*homes, 'base_model', 'method', 'data']))}"
            )
    return parse_goal(table, folder=Path.cwd())


def open_run(goal: Goal, settings: Settings) -> str:
    """Check a goal, register a run for it and make its folder; returns the run's id.

    Raises BadInput where the goal cannot be worked on: then nothing is registered.
    """
    from graph.intake import check_goal

    check_goal(goal)
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


def summary(settings: Settings, run_id: str) -> Summary:
    """What a run has come to so far."""
    from postgrad.summary import summarise

    return summarise(settings, Database.open(settings.database), run_id)


def _drive(settings: Settings, run_id: str, decide: Decide | None, on_event: Callable[[Event], None] | None) -> Summary:
    driver = Driver(settings, run_id, on_event)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgrad") as pool:
        driving = pool.submit(driver.drive, decide)
        try:
            driving.result()
        except BaseException:
            driver.park()  # Ctrl-C reaches this thread only: the run ends its step, and stays resumable
            raise
    return summary(settings, run_id)
