"""The register of runs: what was asked for, how it stands, and what waits for a person."""

from __future__ import annotations

import difflib
import json
import re
import secrets
import sqlite3
import time
import unicodedata
from enum import StrEnum
from typing import Any, Literal, TypedDict, Unpack

from shared_memory.database import Database
from shared_memory.errors import BadInput, Conflict
from shared_memory.goal import Goal
from shared_memory.records import Record
from shared_memory.redaction import redact, redact_plain


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    """A worker drives it, or did until it died."""
    WAITING = "waiting"
    """A person has to answer a request."""
    SUCCEEDED = "succeeded"
    """It reached its report."""
    FAILED = "failed"
    """It cannot go on by itself; `error` says why."""
    OVER_BUDGET = "over_budget"
    """Ended by a cap of the goal, the incumbent delivered."""
    TIMED_OUT = "timed_out"
    """Ended by the goal's hours or deadline, the incumbent delivered."""
    CANCELLED = "cancelled"
    """Ended by a person."""
    INTERRUPTED = "interrupted"
    """Parked by Ctrl-C or a signal, or found dead; can be resumed."""


class Outcome(StrEnum):
    """What a run proved."""

    IMPROVED = "improved"
    NO_IMPROVEMENT = "no_improvement"
    NONE = "none"
    """No comparison was made (yet)."""


Driver = Literal["worker", "studio"]
"""`worker`: our own process drives the run; `studio`: a LangGraph server does."""


class RunRow(Record):
    """One run of the register. Times are seconds since the epoch."""

    run_id: str
    text: str
    goal: dict[str, Any]
    """Plain data of the Goal; `Goal.model_validate(row.goal)` gives it back."""
    status: RunStatus = RunStatus.RUNNING
    outcome: Outcome = Outcome.NONE
    started: float
    ended: float | None = None
    updated: float
    request: dict[str, Any] | None = None
    """What waits for a person."""
    answer: dict[str, Any] | None = None
    """What the person said, not yet taken by a worker."""
    error: str = ""
    """One line."""
    exit_code: int | None = None
    cancel_requested: bool = False
    active_seconds: float = 0.0
    """Time spent driving; waiting for a person is not in it."""
    driver: Driver = "worker"


class RunChanges(TypedDict, total=False):
    """What `Runs.update` may change."""

    status: RunStatus
    outcome: Outcome
    ended: float | None
    error: str
    exit_code: int | None
    cancel_requested: bool
    driver: Driver


_INSERT = """
    INSERT INTO runs (run_id, text, goal, status, outcome, started, ended, updated, request, answer, error, exit_code,
                      cancel_requested, active_seconds, driver)
    VALUES (:run_id, :text, :goal, :status, :outcome, :started, :ended, :updated, :request, :answer, :error, :exit_code,
            :cancel_requested, :active_seconds, :driver)
    ON CONFLICT DO NOTHING
"""
_UPDATE = """
    UPDATE runs SET status = :status, outcome = :outcome, ended = :ended, updated = :updated, request = :request,
                    answer = :answer, error = :error, exit_code = :exit_code, cancel_requested = :cancel_requested,
                    active_seconds = :active_seconds, driver = :driver
    WHERE run_id = :run_id
"""


class Runs:
    """The runs of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, run_id: str, goal: Goal, started: float, driver: Driver = "worker") -> RunRow:
        """Register a run; again with the same goal changes nothing, with another goal it raises Conflict."""
        row = RunRow(run_id=run_id, text=goal.text, goal=goal.plain(), started=started, updated=started, driver=driver)
        with self._db.transaction():
            self._db.execute(_INSERT, _stored(row))
            kept = self._row(run_id)
        if kept.goal != row.goal:
            raise Conflict(f"run `{run_id}` exists with another goal; `postgrad resume {run_id}` goes on with that one")
        return kept

    def get(self, run_id: str) -> RunRow:
        """The run with this id, the one whose id starts so, or the newest for `last`.

        Raises BadInput, with the nearest ids, where that is none or several.
        """
        if exact := self._db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)):
            return _row(exact[0])
        rows = self._db.execute("SELECT run_id FROM runs ORDER BY started DESC, rowid DESC")
        order = [row["run_id"] for row in rows]
        if not order:
            raise BadInput("there are no runs yet; `postgrad run GOAL.toml` starts one")
        if run_id == "last":
            return self._row(order[0])
        found = [known for known in order if run_id and known.startswith(run_id)]
        if len(found) == 1:
            return self._row(found[0])
        near = found[:3] or difflib.get_close_matches(run_id, order, n=3, cutoff=0.4)
        fault = f"`{run_id}` could be several runs" if found else f"there is no run `{run_id}`"
        hint = f"did you mean {' or '.join(f'`{known}`' for known in near)}? " if near else ""
        raise BadInput(f"{fault}; {hint}`postgrad runs` lists them")

    def list(self) -> tuple[RunRow, ...]:
        """All runs, newest first."""
        return tuple(_row(row) for row in self._db.execute("SELECT * FROM runs ORDER BY started DESC, rowid DESC"))

    def update(self, run_id: str, **changes: Unpack[RunChanges]) -> RunRow:
        """Change some fields of a run (full id) and return it; an `error` is brought onto one line, without secrets."""
        if unknown := changes.keys() - RunChanges.__annotations__.keys():
            raise TypeError(f"no field of a run to update: {', '.join(sorted(unknown))}")
        if "error" in changes:
            changes["error"] = redact(" ".join(changes["error"].split()))
        return self._write(run_id, dict(changes))

    def request_cancel(self, run_id: str) -> RunRow:
        """Ask whoever drives the run to stop it."""
        return self._write(run_id, {"cancel_requested": True})

    def put_request(self, run_id: str, request: dict[str, Any]) -> RunRow:
        """Show `request` to a person and mark the run as waiting.

        An answer that was given to this very request stays; one to an earlier request is dropped.
        """
        with self._db.transaction():
            answer = {} if self._row(run_id).request == request else {"answer": None}
            return self._write(run_id, {"request": request, "status": RunStatus.WAITING, **answer})

    def put_answer(self, run_id: str, answer: dict[str, Any]) -> RunRow:
        """Keep what a person said for the worker, reasons without secrets, and return the row with it.

        Raises Conflict where nothing waits, or another answer came first.
        """
        answer = _with_clean_reasons(answer)
        with self._db.transaction():
            row = self._row(run_id)
            if row.request is None:
                raise Conflict(f"run `{run_id}` waits for no answer; `postgrad show {run_id}` tells how it stands")
            if row.answer is not None and row.answer != answer:
                raise Conflict(f"run `{run_id}` was answered already; `postgrad resume {run_id}` goes on with that")
            return self._write(run_id, {"answer": answer})

    def take_answer(self, run_id: str) -> dict[str, Any] | None:
        """The answer, for exactly one taker: with it, the request is gone and the run counts as running."""
        with self._db.transaction():
            answer = self._row(run_id).answer
            if answer is not None:
                self._write(run_id, {"request": None, "answer": None, "status": RunStatus.RUNNING})
            return answer

    def add_active_seconds(self, run_id: str, seconds: float) -> RunRow:
        """Count time spent driving."""
        with self._db.transaction():
            return self._write(run_id, {"active_seconds": self._row(run_id).active_seconds + seconds})

    def _row(self, run_id: str) -> RunRow:
        rows = self._db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,))
        if not rows:
            raise BadInput(f"there is no run `{run_id}`; `postgrad runs` lists them")
        return _row(rows[0])

    def _write(self, run_id: str, changes: dict[str, Any]) -> RunRow:
        """Validate the row with its changes, then write it; the write lock keeps others' changes from being lost."""
        with self._db.transaction():
            row = RunRow.model_validate({**self._row(run_id).model_dump(), **changes, "updated": time.time()})
            self._db.execute(_UPDATE, _stored(row))
        return row


def _with_clean_reasons(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without secrets in its reasons; an edit is the job itself, and stays to the letter."""
    return {
        digest: {key: value if key == "edit" else redact_plain(value) for key, value in said.items()}
        if isinstance(said, dict)
        else said
        for digest, said in answer.items()
    }


def new_run_id(text: str) -> str:
    """An id that sorts by day and reads like the goal: `20261121-make-smollm2-a3f9`."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words: list[str] = []
    for word in re.findall(r"[a-z0-9]+", ascii_text)[:3]:
        if words and len("-".join([*words, word])) > 20:
            break
        words.append(word[:20])
    return "-".join([time.strftime("%Y%m%d"), *(words or ["run"]), secrets.token_hex(2)])


def _stored(row: RunRow) -> dict[str, Any]:
    return {
        column: json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
        for column, value in row.plain().items()
    }


def _row(row: sqlite3.Row) -> RunRow:
    fields = dict(row)
    for column in ("goal", "request", "answer"):
        if fields[column] is not None:
            fields[column] = json.loads(fields[column])
    return RunRow.model_validate(fields)
