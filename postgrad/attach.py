"""Follows a run from a terminal: shows its events, and asks the person at its gates."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from postgrad import api
from postgrad.console import Console
from postgrad.live import Live
from postgrad.worker import Event, exit_code
from shared_memory.database import Database
from shared_memory.lease import holder
from shared_memory.runs import RunRow, Runs, RunStatus
from shared_memory.settings import Settings

POLL_SECONDS = 0.2
START_SECONDS = 15.0
"""How long a worker that was just started may take to claim its run, on a busy machine."""


def follow(settings: Settings, run_id: str, *, ask: bool, from_start: bool = False) -> int:
    """Show a run until it ends, waits for somebody else, or loses its worker; returns the exit code.

    ask: whether to prompt here when the run waits for approval. Ctrl-C parks the run and returns 130.
    """
    db = Database.open(settings.database)
    paths = settings.run_paths(run_id)
    events, live = tail(paths.events, from_start=from_start), Live(paths.live)
    with Console() as console:
        try:
            while True:
                row = _until_it_stops(db, run_id, events, live, console)
                if row.status is not RunStatus.WAITING or not ask:
                    return exit_code(row)
                answer = console.ask(row.request["requests"] if row.request else [])
                if answer is None:
                    return exit_code(row)
                api.answer(settings, run_id, answer)
                api.start_worker(settings, run_id)
        except KeyboardInterrupt:
            api.park(settings, run_id)
            row = _until_it_stops(db, run_id, events, live, console)
            return 130 if row.status is RunStatus.RUNNING else exit_code(row)


def _until_it_stops(db: Database, run_id: str, events: Iterator[Event | None], live: Live, console: Console) -> RunRow:
    """Render events until nobody drives the run any more."""
    runs = Runs(db)
    while True:
        driven = _is_driven(db, runs.get(run_id))
        for event in events:
            if event is None:
                break
            console.render(event)
        if words := live.newest():
            console.render(words)
        if not driven:
            return _final_row(runs, run_id)
        time.sleep(POLL_SECONDS)


def _is_driven(db: Database, row: RunRow) -> bool:
    """Whether somebody drives the run, or was started so lately that they may be on their way."""
    if row.driver == "studio":
        return row.status is RunStatus.RUNNING
    wanted = row.ended is None and (row.status is not RunStatus.WAITING or row.answer is not None)
    on_its_way = wanted and row.status is not RunStatus.INTERRUPTED and time.time() - row.updated < START_SECONDS
    return on_its_way or holder(db, row.run_id) is not None


def _final_row(runs: Runs, run_id: str) -> RunRow:
    """The run's row; one that still says `running` without a worker has lost it."""
    row = runs.get(run_id)
    if row.status is RunStatus.RUNNING and row.driver == "worker":
        error = f"the run's worker is gone; `postgrad resume {run_id}` goes on, and worker.log has its last words"
        return runs.update(run_id, status=RunStatus.INTERRUPTED, error=error)
    return row


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
                with suppress(ValueError):  # a full disk can leave half a line
                    yield json.loads(line)
        yield None


def can_ask() -> bool:
    """Whether a person sits at this terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def jobs_of(settings: Settings, run_id: str) -> list[dict[str, Any]]:
    """The jobs of a run in the order of their submission, as plain data."""
    from shared_memory.ledger import Ledger

    return [action.plain() for action in Ledger(Database.open(settings.database), run_id).actions()]
