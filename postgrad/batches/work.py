"""Works on a batch: a few threads that take one goal after the other, and a boundary around each goal."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic import Field

from agents.jobs.hardware import local_hardware
from postgrad.batches.goals import Entry, Goals, batch_id, read_entries, run_ids
from postgrad.batches.means import ENDED, Clock, Means, Refused, find
from postgrad.decide import Decide, Request, answers
from postgrad.report.write import write_report
from postgrad.summary import summarise
from postgrad.units import one_line
from postgrad.worker import Driver
from shared_memory.database import Database
from shared_memory.errors import BadInput, PostgradError
from shared_memory.goal import Goal
from shared_memory.records import Record
from shared_memory.redaction import redact
from shared_memory.runs import Outcome, RunRow, Runs, RunStatus
from shared_memory.settings import Settings

BEAT_SECONDS = 5.0
"""How often the time that the batch takes is written down; a killed batch forgets no more of it."""


class Result(Record):
    """How a goal of a batch stands: one line of `postgrad batch --json`."""

    run_id: str = ""
    """Empty where no run was begun."""
    goal: str
    """The file's name, with the line in a JSONL file (`goals.jsonl:3`); `goal 3` for the third of a list."""
    status: RunStatus
    outcome: Outcome = Outcome.NONE
    champion: dict[str, Any] = Field(default_factory=dict)
    """As in the run's summary: `{experiment, score {benchmark: {score, …}}, improvement, model}`; empty without one."""
    spent: dict[str, Any] = Field(default_factory=dict)
    """As in the run's summary: `{usd, llm_tokens, hours, jobs, by_role}`; empty where no run was begun."""
    report: str = ""
    """Path of the report, or empty."""
    error: str = ""
    """One line."""


class Batch:
    """A batch that can be parked from another thread, or from a signal; see `batch`."""

    def __init__(
        self,
        goals: Goals,
        settings: Settings,
        *,
        name: str = "",
        fresh: bool = False,
        concurrency: int | None = None,
        budget_usd: float | None = None,
        hours: float | None = None,
        retry_failed: bool = False,
    ) -> None:
        self.entries = read_entries(goals)
        self.parked = False
        self.concurrency = max(2, len(local_hardware().gpus)) if concurrency is None else concurrency
        if self.concurrency < 1:
            raise BadInput(f"--concurrency cannot be {concurrency}; give 1 or more, or leave it out")
        self._settings = settings
        self._db = Database.open(settings.database)
        self._runs = Runs(self._db)
        identity = batch_id(goals, self.entries, name)
        self._clock = Clock(settings.home / "batches" / f"{identity}.json", fresh)
        prefix = f"{identity}-{self._clock.round}-"
        self.run_ids = run_ids(self.entries, prefix)
        self._means = Means(settings, self._db, prefix, self._clock, budget_usd, hours)
        self._retry_failed = retry_failed
        self._decide: Decide | None = None
        self._deciding = threading.Lock()
        self._raised: Exception | None = None
        self._on_start: Callable[[Entry, str], None] | None = None
        self._ahead = deque(self.entries)
        self._ended: queue.SimpleQueue[tuple[int | None, Result | None]] = queue.SimpleQueue()
        """Place and result of a goal, where it has one; no place when a thread has nothing left to do."""
        self._turn = threading.Condition()
        self._drivers: dict[str, Driver] = {}
        self._asking: set[int] = set()
        self._spenders: set[str] = set()
        self._outlasting: set[str] = set()
        self._cut: set[str] = set()
        self._beaten = time.monotonic()

    def run(
        self,
        decide: Decide | None = None,
        on_result: Callable[[Result], None] | None = None,
        on_start: Callable[[Entry, str], None] | None = None,
    ) -> list[Result]:
        """Work, once, until every goal has a result or the batch is parked; see `batch`.

        on_start: called with a goal and its run's id when that is driven, from the thread that does.
        """
        self._decide = decide
        self._on_start = on_start
        self._clock.book()
        results: dict[int, Result] = {}
        workers = [threading.Thread(target=self._work, daemon=True) for _ in self.entries[: self.concurrency]]
        for worker in workers:
            worker.start()
        try:
            at_work = len(workers)
            while at_work:
                place, result = self._next()
                if place is None:
                    at_work -= 1
                elif result is not None:
                    results[place] = result
                    if on_result is not None:
                        on_result(result)
        except BaseException:
            self.park()
            for worker in workers:  # a run whose process ends around it would be filed as failed
                worker.join()
            raise
        finally:
            self._clock.book()
        if self._raised is not None:
            raise self._raised
        return [results[place] for place in sorted(results)]

    def park(self) -> None:
        """Let every run stop after the step that it is in; jobs go on by themselves. Takes no lock, so a signal may."""
        self.parked = True
        for driver in list(self._drivers.values()):
            driver.park()

    def _next(self) -> tuple[int | None, Result | None]:
        """Place and result of the next goal that has ended; looks after the clock while it waits."""
        while True:
            self._beat()
            with suppress(queue.Empty):
                return self._ended.get(timeout=BEAT_SECONDS)

    def _beat(self) -> None:
        """Now and then: write the time down, and end the runs that would go on when it is up."""
        if time.monotonic() - self._beaten < BEAT_SECONDS:
            return
        self._beaten = time.monotonic()
        with suppress(OSError):  # a full disk: the next beat writes it
            self._clock.book()
        if self._means.seconds_left() <= 0:
            for run_id in self._outlasting & self._drivers.keys() - self._cut:
                self._cut.add(run_id)
                self._runs.request_cancel(run_id)

    def _work(self) -> None:
        """Take goals in their order, one after the other, until none is left or the batch is parked."""
        try:
            while self._ahead and not self.parked:
                try:
                    entry = self._ahead.popleft()
                except IndexError:  # another thread was quicker
                    break
                self._ended.put((entry.place, self._isolated(entry, self.run_ids[entry.place])))
        finally:
            self._ended.put((None, None))

    def _isolated(self, entry: Entry, run_id: str) -> Result | None:
        """The boundary between goals: whatever happens to one stays with it."""
        try:
            return self._outcome(entry, run_id)
        except Exception as error:  # noqa: BLE001 - see above
            log = self._settings.run_paths(run_id).worker_log
            with suppress(OSError):
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a", encoding="utf-8") as stream:
                    stream.write(redact(traceback.format_exc()))
            text = redact(f"internal error: {error!r}; the traceback is in {log}")
            return Result(goal=entry.name, status=RunStatus.FAILED, error=text)

    def _outcome(self, entry: Entry, run_id: str) -> Result | None:
        """How a goal stands after it was driven as far as it goes; None where the batch was parked before it began."""
        if entry.goal is None:
            return self._result(entry, run_id, error=entry.error)
        try:
            begun = self._drive(entry.place, entry.goal, run_id)
        except Refused as refused:
            return self._result(entry, run_id, status=refused.status, error=str(refused))
        except PostgradError as error:
            return self._result(entry, run_id, error=str(error))
        except OSError as error:
            cause = f"{error.strerror or error} ({error.filename or self._settings.home})"
            return self._result(entry, run_id, error=f"{cause}; mend that, and run the batch again")
        return self._result(entry, run_id) if begun else None

    def _drive(self, place: int, goal: Goal, run_id: str) -> bool:
        """Drive a goal's run if it has to be; False where the batch was parked before it began."""
        from graph.intake import check_goal

        row = find(self._runs, run_id)
        if row is None:
            check_goal(goal, brain=self._settings.brain)
        elif not self._goes_on(row):
            return True
        driver = Driver(self._settings, run_id)
        if not self._admit(place, goal, run_id, driver):
            return False
        try:
            self._settings.run_paths(run_id).root.mkdir(parents=True, exist_ok=True)
            if self._on_start is not None:
                self._on_start(self.entries[place], run_id)
            row = driver.drive(self._ask if self._decide else None)
        finally:
            with self._turn:
                del self._drivers[run_id]
                self._spenders.discard(run_id)
                self._turn.notify_all()
        if run_id in self._cut and row.status is RunStatus.CANCELLED:
            self._runs.update(run_id, status=RunStatus.TIMED_OUT, cancel_requested=False, error=self._means.time_is_up)
            write_report(self._settings, self._db, run_id)
        return True

    def _ask(self, requests: list[Request]) -> dict[str, Any] | None:
        """What `decide` says, one gate at a time. What it raises is the caller's: the batch parks, and raises it."""
        with self._deciding:
            if self._decide is None or self.parked:
                return None
            try:
                return answers(self._decide(requests), requests)
            except Exception as error:  # noqa: BLE001 - whatever it is, `run` raises it
                self._raised = error
                self.park()
                return None

    def _goes_on(self, row: RunRow) -> bool:
        if row.status is RunStatus.WAITING:
            return row.answer is not None or row.cancel_requested or self._decide is not None
        return row.status not in ENDED or (self._retry_failed and row.status is RunStatus.FAILED)

    def _admit(self, place: int, goal: Goal, run_id: str, driver: Driver) -> bool:
        """Put the goal on record with its share of the batch's means; False where the batch is being parked.

        Where no dollars are left, it waits for what comes back from the goals that are being driven, and the first in
        the batch gets it first. Raises Refused where nothing will come back, or no time is left.
        """
        asks = self._means.shared(goal)
        with self._turn:
            if asks:
                self._asking.add(place)
            try:
                while not self.parked:
                    if not asks or place == min(self._asking):
                        row = self._means.grant(run_id, goal, self._spenders)
                        if row is not None:
                            break
                        if not self._spenders:
                            raise self._means.nothing_left()
                    self._turn.wait(1.0)
                else:
                    return False
                if self._means.outlasts(row):
                    self._outlasting.add(run_id)
                self._drivers[run_id] = driver
                if asks:
                    self._spenders.add(run_id)
            finally:
                self._asking.discard(place)
                self._turn.notify_all()
        if self.parked:  # `park` may have looked before the driver was there
            driver.park()
        return True

    def _result(self, entry: Entry, run_id: str, *, status: RunStatus | None = None, error: str = "") -> Result:
        """How a goal stands, from its run where it has one; `status` and `error` say what kept it from going on."""
        if find(self._runs, run_id) is None:
            return Result(goal=entry.name, status=status or RunStatus.FAILED, error=one_line(redact(error)))
        told = summarise(self._settings, self._db, run_id)
        return Result(
            run_id=run_id,
            goal=entry.name,
            status=status or told["status"],
            error=one_line(redact(error)) or told["error"],
            **{key: told[key] for key in ("outcome", "champion", "spent", "report")},
        )
