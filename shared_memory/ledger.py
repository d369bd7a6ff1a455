"""Write-ahead log of every action with a side effect, and of the consent behind it.

An action goes `intended → submitted → terminal`. The intention is on disk before the backend hears of the job, so
after a crash there is a key to look for. `unknown` is an action whose submission may or may not have happened: it is
not terminal: its hold stays, and the next attempt starts only where a submitter says that it may stand beside it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from enum import StrEnum

from shared_memory.database import Database
from shared_memory.errors import Conflict
from shared_memory.records import Decision, Job, JobSpec, Purpose, Record, submission_key


class ActionState(StrEnum):
    """How far an action got."""

    INTENDED = "intended"
    """About to be submitted."""
    SUBMITTED = "submitted"
    """The backend has it, under `backend_id`."""
    UNKNOWN = "unknown"
    """Submitted perhaps: the backend's answer got lost, and it does not list the job."""
    TERMINAL = "terminal"
    """Over; `job` says how."""


class Action(Record):
    """One attempt at one job."""

    key: str
    """The submission key."""
    run_id: str
    experiment: str
    purpose: Purpose
    spec_digest: str
    attempt: int
    state: ActionState
    backend_id: str = ""
    job: Job | None = None
    """How it ended."""
    at: float
    """When it was intended, in seconds since the epoch."""


class Ledger:
    """The ledger of one run."""

    def __init__(self, db: Database, run_id: str) -> None:
        self._db = db
        self._run_id = run_id

    def decide(self, decision: Decision) -> Decision:
        """Record a consent or refusal (stamped with the time if it has none); repeating the latest one adds nothing."""
        with self._db.transaction():
            latest = self.decision(decision.spec_digest)
            if latest and latest == decision.model_copy(update={"at": latest.at}):
                return latest
            stamped = decision if decision.at else decision.model_copy(update={"at": time.time()})
            self._db.execute(
                "INSERT INTO decisions (run_id, spec_digest, body) VALUES (?, ?, ?)",
                (self._run_id, stamped.spec_digest, stamped.model_dump_json()),
            )
        return stamped

    def decision(self, spec_digest: str) -> Decision | None:
        """The latest decision on a spec."""
        rows = self._db.execute(
            "SELECT body FROM decisions WHERE run_id = ? AND spec_digest = ? ORDER BY seq DESC LIMIT 1",
            (self._run_id, spec_digest),
        )
        return Decision.model_validate_json(rows[0]["body"]) if rows else None

    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, oldest first."""
        rows = self._db.execute("SELECT body FROM decisions WHERE run_id = ? ORDER BY seq", (self._run_id,))
        return tuple(Decision.model_validate_json(row["body"]) for row in rows)

    def intend(self, spec: JobSpec, attempt: int, *, beside_unknown: bool = False) -> Action:
        """Write down that this attempt is about to be submitted; again, it returns the action as it stands.

        Raises Conflict unless exactly this spec is approved and its earlier attempts are all terminal;
        `beside_unknown` lets one stand that is unknown, and both are booked.
        """
        key = submission_key(self._run_id, spec, attempt)
        with self._db.transaction():
            if existing := self.action(key):
                return existing
            decision = self.decision(spec.digest)
            if decision is None or not decision.approved:
                fault = "was refused" if decision else "is not approved"
                raise Conflict(f"`{spec.title}` {fault}; `postgrad approve {self._run_id}` decides")
            ended = (ActionState.TERMINAL, ActionState.UNKNOWN) if beside_unknown else (ActionState.TERMINAL,)
            if before := next((a for a in self._attempts(spec) if a.state not in ended), None):
                raise Conflict(
                    f"attempt {before.attempt} at `{spec.title}` is still {before.state};"
                    f" `postgrad show {self._run_id}` tells how it stands"
                )
            action = Action(
                key=key,
                run_id=self._run_id,
                experiment=spec.experiment,
                purpose=spec.purpose,
                spec_digest=spec.digest,
                attempt=attempt,
                state=ActionState.INTENDED,
                at=time.time(),
            )
            self._db.execute(
                "INSERT INTO actions"
                " (key, run_id, experiment, purpose, spec_digest, attempt, state, backend_id, job, at) VALUES"
                " (:key, :run_id, :experiment, :purpose, :spec_digest, :attempt, :state, :backend_id, :job, :at)",
                action.plain(),
            )
        return action

    def submitted(self, key: str, backend_id: str) -> Action:
        """The backend has the job; raises Conflict where it already has it under another id."""
        with self._db.transaction():
            action = self._known(key)
            if action.backend_id and action.backend_id != backend_id:
                raise Conflict(f"job {key} runs as {action.backend_id} and as {backend_id}; cancel one of them")
            if action.state is ActionState.TERMINAL:
                return action
            self._db.execute(
                "UPDATE actions SET state = ?, backend_id = ? WHERE key = ?", (ActionState.SUBMITTED, backend_id, key)
            )
            return self._known(key)

    def unknown(self, key: str) -> Action:
        """Nobody can say whether the backend has the job; raises Conflict where it is known to be over."""
        with self._db.transaction():
            if self._known(key).state is ActionState.TERMINAL:
                raise Conflict(f"job {key} is over; `postgrad show {self._run_id}` tells how it ended")
            self._db.execute("UPDATE actions SET state = ? WHERE key = ?", (ActionState.UNKNOWN, key))
            return self._known(key)

    def finished(self, key: str, job: Job) -> Action:
        """The job is over; the first account of its end stays, and a contrary one raises Conflict."""
        if job.key != key or not job.state.terminal:
            raise ValueError(f"{job.key} in state {job.state} does not end {key}")
        with self._db.transaction():
            action = self._known(key)
            if action.job is None:
                self._db.execute(
                    "UPDATE actions SET state = ?, job = ?, backend_id = coalesce(nullif(?, ''), backend_id)"
                    " WHERE key = ?",
                    (ActionState.TERMINAL, job.model_dump_json(), job.backend_id, key),
                )
                return self._known(key)
            if action.job.state is not job.state:
                raise Conflict(f"job {key} ended as {action.job.state}, and now as {job.state}; check its log")
            return action

    def action(self, key: str) -> Action | None:
        """The action with this submission key."""
        rows = self._db.execute("SELECT * FROM actions WHERE key = ?", (key,))
        return _action(rows[0]) if rows else None

    def actions(self) -> tuple[Action, ...]:
        """All actions, oldest first."""
        rows = self._db.execute("SELECT * FROM actions WHERE run_id = ? ORDER BY rowid", (self._run_id,))
        return tuple(_action(row) for row in rows)

    def open_actions(self) -> tuple[Action, ...]:
        """The actions that are not terminal, oldest first."""
        return tuple(action for action in self.actions() if action.state is not ActionState.TERMINAL)

    def last_attempt(self, spec: JobSpec) -> Action | None:
        """The latest attempt at exactly this spec."""
        return next(iter(self._attempts(spec)), None)

    def _attempts(self, spec: JobSpec) -> tuple[Action, ...]:
        """Attempts at exactly this spec, latest first."""
        rows = self._db.execute(
            "SELECT * FROM actions WHERE run_id = ? AND experiment = ? AND purpose = ? AND spec_digest = ?"
            " ORDER BY attempt DESC",
            (self._run_id, spec.experiment, spec.purpose, spec.digest),
        )
        return tuple(_action(row) for row in rows)

    def _known(self, key: str) -> Action:
        if action := self.action(key):
            return action
        raise ValueError(f"no intention was written for {key}")


def _action(row: sqlite3.Row) -> Action:
    fields = dict(row)
    return Action.model_validate({**fields, "job": json.loads(fields["job"]) if fields["job"] else None})
