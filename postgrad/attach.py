"""Follows a run from a terminal: shows its events, and asks the person at its gates."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from postgrad import api
from postgrad.console import Console
from postgrad.worker import Event, exit_code
from shared_memory.database import Database
from shared_memory.lease import holder
from shared_memory.runs import RunRow, Runs, RunStatus
from shared_memory.settings import Settings

POLL_SECONDS = 0.2
START_SECONDS = 30.0
"""How long a worker that was just started may take to claim its run."""


def follow(settings: Settings, run_id: str, *, ask: bool, started: bool = False, from_start: bool = False) -> int:
    """Show a run until it ends, waits for somebody else, or loses its worker; returns the exit code.

    ask: whether to prompt here when the run waits for approval. started: a worker was just started, so one that is
    not there yet is no fault. Ctrl-C parks the run and returns 130.
    """
    db = Database.open(settings.database)
    events = tail(settings.run_paths(run_id).events, from_start=from_start)
    with Console() as console:
        try:
            while True:
                row = _until_it_stops(db, run_id, events, console, started)
                if row.status is not RunStatus.WAITING or not ask:
                    return exit_code(row)
                answer = console.ask(row.request["requests"] if row.request else [])
                if answer is None:
                    return exit_code(row)
                api.answer(settings, run_id, answer)
                api.start_worker(settings, run_id)
                started = True
        except KeyboardInterrupt:
            return _park(settings, db, run_id, events, console)


def _until_it_stops(
    db: Database, run_id: str, events: Iterator[Event | None], console: Console, started: bool
) -> RunRow:
    """Render events until no worker drives the run any more."""
    runs = Runs(db)
    deadline = time.monotonic() + (START_SECONDS if started else 0)
    seen_alive = False
    while True:
        alive = holder(db, run_id) is not None
        seen_alive = seen_alive or alive
        for event in events:
            if event is None:
                break
            console.render(event)
        if not alive and (seen_alive or time.monotonic() > deadline or _has_ended(runs.get(run_id), started)):
            return _final_row(runs, run_id, seen_alive or not started)
        time.sleep(POLL_SECONDS)


def _has_ended(row: RunRow, started: bool) -> bool:
    return not started and row.status is not RunStatus.RUNNING


def _final_row(runs: Runs, run_id: str, lived: bool) -> RunRow:
    """The run's row; one that still says `running` without a worker has lost it."""
    row = runs.get(run_id)
    if row.status is RunStatus.RUNNING:
        what = "the run's worker died" if lived else "the run's worker did not start"
        return runs.update(
            run_id,
            status=RunStatus.INTERRUPTED,
            error=f"{what}; `postgrad resume {run_id}` goes on, and its log is worker.log",
        )
    return row


def _park(settings: Settings, db: Database, run_id: str, events: Iterator[Event | None], console: Console) -> int:
    api.park(settings, run_id)
    row = _until_it_stops(db, run_id, events, console, started=False)
    return exit_code(row) if row.status is not RunStatus.RUNNING else 130


def tail(path: Path, from_start: bool) -> Iterator[Event | None]:
    """The events of a file as they are appended; None whenever there is nothing new."""
    position = 0 if from_start or not path.exists() else path.stat().st_size
    while True:
        if not path.exists():
            yield None
            continue
        with path.open("rb") as stream:
            stream.seek(position)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                position += len(line)
                yield json.loads(line)
        yield None


def can_ask() -> bool:
    """Whether a person sits at this terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def jobs_of(settings: Settings, run_id: str) -> list[dict[str, Any]]:
    """The jobs of a run in the order of their submission, as plain data."""
    from shared_memory.ledger import Ledger

    return [action.plain() for action in Ledger(Database.open(settings.database), run_id).actions()]
