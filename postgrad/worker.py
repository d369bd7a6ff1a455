"""The one process that drives a run: it holds the lease, feeds the graph, and writes down what happens.

`python -m postgrad.worker RUN` is what the command line starts in the background; the Python API calls `drive` in its
own process. Either way the graph's checkpoints, the ledger and the events are on disk after every step, so that any
other process can go on from there.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from postgrad.feed import answer_to, next_input
from postgrad.live import write_live
from shared_memory.database import Database
from shared_memory.errors import Conflict, PostgradError
from shared_memory.journal import Journal
from shared_memory.lease import Lease
from shared_memory.redaction import redact, redact_plain
from shared_memory.run_paths import RunPaths
from shared_memory.runs import RunRow, Runs, RunStatus
from shared_memory.settings import Settings, load_settings

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import Interrupt

    from graph.context import Context

Event = dict[str, Any]
"""A line of events.jsonl; postgrad/events.py has the typed ones."""
Ask = Callable[[list[Any]], dict[str, Any] | None]
"""Answers the requests of a gate: spec digest → {approved, reason} or {edit}; None leaves the run waiting."""

EXIT_CODES = {
    RunStatus.SUCCEEDED: 0,
    RunStatus.FAILED: 1,
    RunStatus.WAITING: 3,
    RunStatus.OVER_BUDGET: 4,
    RunStatus.TIMED_OUT: 5,
    RunStatus.CANCELLED: 6,
    RunStatus.INTERRUPTED: 130,
}
CLOCK_SECONDS = 5.0


class Driver:
    """Drives one run from where it stands to its end, a gate, or the wish to park."""

    def __init__(self, settings: Settings, run_id: str, on_event: Callable[[Event], None] | None = None) -> None:
        from langgraph.runtime import RunControl

        from graph.context import Context

        self.context: Context = Context(home=str(settings.home))
        self._db = Database.open(settings.database)
        self._runs = Runs(self._db)
        self._settings = settings
        self._paths: RunPaths = settings.run_paths(run_id)
        self._run_id = run_id
        self._on_event = on_event
        self._parking = False
        self._control = RunControl()

    def drive(self, ask: Ask | None = None) -> RunRow:
        """Go on until the run ends, waits or parks, and return its row.

        Raises Conflict where another process drives it.
        """
        lease = Lease.acquire(self._db, self._run_id)
        if lease is None:
            raise Conflict(f"another process drives run {self._run_id}; `postgrad attach {self._run_id}` follows it")
        from agents.tools.servers import stop_servers

        with lease.held():
            try:
                self._end_the_last_line()
                row = self._drive(lease, ask)
                if row.ended is not None:
                    self._report()
                return row
            except Exception as error:  # the boundary of the run: whatever it was is filed, in one line
                if lease.lost:
                    raise  # another process drives the run now: its row is not ours to write
                row = self._stopped(self._in_one_line(error))
                if isinstance(error, PostgradError | OSError | sqlite3.Error):
                    return row
                raise
            finally:
                stop_servers(self._run_id)

    def _in_one_line(self, error: Exception) -> PostgradError:
        """What stopped the run, for a person."""
        go_on = f"`postgrad resume {self._run_id}` goes on"
        if isinstance(error, PostgradError):
            return error
        if isinstance(error, OSError):
            cause = f"{error.strerror or error} ({error.filename or self._paths.root})"
            return PostgradError(f"{cause}; mend that, then {go_on}")
        if isinstance(error, sqlite3.Error):
            return PostgradError(f"the database failed: {error}; {go_on}")
        return PostgradError(f"internal error: {error!r}; the traceback is in {self._paths.worker_log}")

    def park(self) -> None:
        """Stop after the step that is going on; jobs go on by themselves. May be called from any thread or signal."""
        self._parking = True
        self._control.request_drain("parked")

    def _drive(self, lease: Lease, ask: Ask | None) -> RunRow:
        from langgraph.checkpoint.sqlite import SqliteSaver

        from graph.replay import builder_of

        with closing(sqlite3.connect(self._settings.database, timeout=30, check_same_thread=False)) as connection:
            builder = builder_of(Journal(self._db, self._run_id))
            graph = builder.compile(checkpointer=SqliteSaver(connection), name="postgrad")
            config: RunnableConfig = {"configurable": {"thread_id": self._run_id}}
            row = self._runs.get(self._run_id)
            if row.cancel_requested and row.status is RunStatus.FAILED and "goal" not in graph.get_state(config).values:
                return self._runs.update(self._run_id, status=RunStatus.CANCELLED, ended=time.time())  # nothing began
            feed = next_input(graph, config, row, self.context)
            self._runs.update(self._run_id, status=RunStatus.RUNNING, error="", exit_code=None, ended=None)
            self._write({"kind": "status", "status": "running", "text": "resumed" if feed is None else "running"})
            while True:
                for event in self._steps(graph, feed, config, lease):
                    self._write(event)
                snapshot = graph.get_state(config)
                if not snapshot.tasks:
                    return self._runs.get(self._run_id)
                if not snapshot.interrupts:
                    return self._parked()
                feed = self._answered(snapshot.interrupts[0], ask)
                if feed is None:
                    return self._runs.get(self._run_id)

    def _steps(self, graph: Any, feed: Any, config: RunnableConfig, lease: Lease) -> Iterator[Event]:
        """The events of the run until the graph stops, checking the lease and counting the time after each chunk."""
        from langgraph.errors import GraphDrained
        from langgraph.runtime import RunControl

        self._control = RunControl()
        if self._parking:
            self._control.request_drain("parked")
        modes = ["custom", "updates"]
        answered = self._runs.get(self._run_id).answer is not None
        with self._clock():
            stream = graph.stream(
                feed,
                config,
                context=self.context,
                control=self._control,
                stream_mode=modes,
                subgraphs=True,
                durability="sync",
            )
            try:
                for _, mode, chunk in stream:
                    lease.check()
                    if mode == "custom":
                        yield chunk
                    elif answered and "__interrupt__" not in chunk:
                        # Only now is the answer part of a checkpoint: before, a crash would have lost it.
                        self._runs.take_answer(self._run_id)
                        answered = False
            except GraphDrained:
                return
            finally:
                # Leaving early for whatever reason: nodes that still run in the background end at their next look.
                self._control.request_drain("left")

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Count the time spent driving while inside."""
        stop = threading.Event()

        def count() -> None:
            before = time.monotonic()
            while True:
                ended = stop.wait(CLOCK_SECONDS)
                now = time.monotonic()
                # A full disk or a locked database: what was not booked is booked with the next beat.
                with suppress(PostgradError):
                    self._runs.add_active_seconds(self._run_id, now - before)
                    before = now
                if ended:
                    return

        thread = threading.Thread(target=count, name="clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _answered(self, interrupt: Interrupt, ask: Ask | None) -> Any:
        """The command that answers a gate, or None where nobody does: then the run waits."""
        request = interrupt.value
        self._runs.put_request(self._run_id, request)
        answer = ask(request["requests"]) if ask else None
        if answer is None:
            n = len(request["requests"])
            waits = f"{n} job{'s wait' if n > 1 else ' waits'} for approval"
            self._write({"kind": "status", "status": "waiting", "text": waits})
            return None
        try:
            answer = self._runs.put_answer(self._run_id, answer).answer or {}
        except Conflict:  # somebody else was quicker: the first answer counts
            answer = self._runs.get(self._run_id).answer or answer
        return answer_to(interrupt, answer)

    def _parked(self) -> RunRow:
        text = f"parked; running jobs go on by themselves, `postgrad resume {self._run_id}` takes them up again"
        self._write({"kind": "status", "status": "interrupted", "text": text})
        return self._runs.update(self._run_id, status=RunStatus.INTERRUPTED)

    def _stopped(self, error: PostgradError) -> RunRow:
        """A node could not go on: the run fails here, and resumes at that very node."""
        row = self._runs.update(
            self._run_id, status=RunStatus.FAILED, error=str(error), exit_code=error.exit_code, ended=time.time()
        )
        self._write({"kind": "status", "status": "failed", "outcome": row.outcome, "text": str(error)})
        return row

    def _report(self) -> None:
        from postgrad.report.write import write_report

        write_report(self._settings, self._db, self._run_id)

    def _end_the_last_line(self) -> None:
        """Where a kill or a full disk cut an event short, the next one still gets a line of its own."""
        with suppress(FileNotFoundError), self._paths.events.open("rb+") as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    stream.write(b"\n")

    def _write(self, event: Event) -> None:
        """Append an event, redacted, to the run's file, and show it to whoever listens."""
        event = redact_plain({"at": time.time(), **event})
        if event["kind"] == "words":  # half a sentence, some times a second: for who watches now, and for no trace
            write_live(self._paths.live, event)
        else:
            with self._paths.events.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(event, ensure_ascii=False) + "\n")
        if self._on_event is not None:
            self._on_event(event)


def exit_code(row: RunRow) -> int:
    """What the command line ends with for a run in this state."""
    if row.status is RunStatus.FAILED and row.exit_code:
        return row.exit_code
    return EXIT_CODES.get(row.status, 0)


def main(run_id: str) -> int:
    """Drive a run in this process until it ends, waits, or is asked to park by SIGTERM or SIGINT."""
    settings = load_settings()
    driver = Driver(settings, run_id)

    def park(signum: int, frame: FrameType | None) -> None:
        driver.park()

    signal.signal(signal.SIGTERM, park)
    signal.signal(signal.SIGINT, park)
    try:
        return exit_code(driver.drive())
    except Conflict as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the boundary of the process: the traceback goes to the log without secrets
        print(redact(traceback.format_exc()), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
