"""What a batch may still spend: dollars and hours of the whole, shared out among its goals.

Dollars: a goal is put on record with what it may have, so that its run keeps to that whoever drives it. What is left is
counted from the register and the bookings within one transaction: processes that work on the same batch share one
purse. Hours: wall-clock time in which the batch was being worked on, over all its calls.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from agents.brain import Role
from shared_memory.budget import Budget, dollars
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import MICRO_USD
from shared_memory.run_paths import write_atomically
from shared_memory.runs import RunRow, Runs, RunStatus
from shared_memory.settings import Settings

ENDED = frozenset(RunStatus) - {RunStatus.RUNNING, RunStatus.WAITING, RunStatus.INTERRUPTED}


class Refused(Exception):
    """The batch has no means left for a goal."""

    def __init__(self, status: RunStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Clock:
    """The time that a batch has taken, and how often it was begun anew; kept in a small file."""

    def __init__(self, path: Path, fresh: bool) -> None:
        noted = {"round": 1, "seconds": 0.0}
        with suppress(FileNotFoundError, ValueError):
            noted |= json.loads(path.read_text(encoding="utf-8"))
        self.round = int(noted["round"]) + (fresh and path.exists())
        self._before = 0.0 if fresh else float(noted["seconds"])
        self._began = time.monotonic()
        self._path = path

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def book(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps({"round": self.round, "seconds": self.seconds}).encode())


class Means:
    """The caps of one batch; `prefix` is what the ids of its runs begin with."""

    def __init__(
        self, settings: Settings, db: Database, prefix: str, clock: Clock, usd: float | None, hours: float | None
    ) -> None:
        """Raises BadInput for caps below zero or without end."""
        for flag, cap in (("--budget-usd", usd), ("--hours", hours)):
            if cap is not None and not 0 <= cap < math.inf:
                raise BadInput(f"{flag} cannot be {cap:g}; give 0 or more, or leave it out")
        self._settings = settings
        self._db = db
        self._runs = Runs(db)
        self._prefix = prefix
        self._clock = clock
        self._usd_micro = None if usd is None else round(usd * MICRO_USD)
        self._hours = hours

    def seconds_left(self) -> float:
        return math.inf if self._hours is None else self._hours * 3600 - self._clock.seconds

    def shared(self, goal: Goal) -> bool:
        """Whether a goal takes its dollars out of the batch's."""
        return self._usd_micro is not None and self._costs(goal)

    def grant(self, run_id: str, goal: Goal, driven: Collection[str]) -> RunRow | None:
        """The goal's run, on record with what the batch has for it; None where no dollars are left for it now.

        A new goal gets the least of its own caps and of what the batch has beside all that begun goals may still
        spend. One that was begun keeps what it was given, and goes on where that fits beside the goals in `driven`.
        Raises Refused where no time is left.
        """
        seconds = self.seconds_left()
        if seconds <= 0:
            raise Refused(RunStatus.TIMED_OUT, f"{self.time_is_up}; raise --hours, and run the batch again")
        with self._db.transaction():
            row = find(self._runs, run_id)
            if row is not None:
                begun = Goal.model_validate(row.goal)
                fits = not self.shared(begun) or self._committed(row, begun) <= self._usd_left(run_id, driven)
                return row if fits else None
            usd_micro = goal.limits.usd_micro
            if self.shared(goal):
                usd_micro = min(usd_micro, self._usd_left(run_id, None))
                if usd_micro <= 0:
                    return None
            elif self._usd_micro is not None:
                usd_micro = 0
            limits = {"usd": usd_micro / MICRO_USD, "hours": min(goal.limits.hours, seconds / 3600)}
            granted = goal.model_copy(update={"limits": goal.limits.model_copy(update=limits)})
            return self._runs.create(run_id, granted, time.time())

    def nothing_left(self) -> Refused:
        """The refusal of a goal that no dollars are left for."""
        cap = dollars(self._usd_micro or 0)
        reason = f"nothing is left of the batch's {cap} for it; raise --budget-usd, and run the batch again"
        return Refused(RunStatus.OVER_BUDGET, reason)

    @property
    def time_is_up(self) -> str:
        return f"the batch's {self._hours:g} h are used up"

    def outlasts(self, row: RunRow) -> bool:
        """Whether a run may take longer by itself than the batch may: it had to wait while others went on."""
        return Goal.model_validate(row.goal).limits.hours * 3600 - row.active_seconds > self.seconds_left()

    def _costs(self, goal: Goal) -> bool:
        """Whether a goal can cost anything: jobs on this machine and the playbook are free."""
        free = all(goal.mind(role, self._settings.brain) == "playbook" for role in Role)
        return goal.limits.usd_micro > 0 and (goal.run.on != "local" or not free)

    def _usd_left(self, run_id: str, driven: Collection[str] | None) -> int:
        """Micro-dollars that the batch has for one run beside what others have spent, or may still spend.

        driven: the others that may still spend; None for all that have not ended, since a person may go on with any.
        """
        gone = 0
        for row in self._runs.list():
            if row.run_id.startswith(self._prefix) and row.run_id != run_id:
                goal = Goal.model_validate(row.goal)
                open_ = row.status not in ENDED if driven is None else row.run_id in driven
                gone += self._committed(row, goal) if open_ and self._costs(goal) else self._spent(row, goal)
        return (self._usd_micro or 0) - gone

    def _committed(self, row: RunRow, goal: Goal) -> int:
        return max(goal.limits.usd_micro, self._spent(row, goal))

    def _spent(self, row: RunRow, goal: Goal) -> int:
        """Micro-dollars settled or held."""
        spend = Budget(self._db, row.run_id, goal.limits).spent()
        return spend.usd_micro + spend.held_usd_micro


def find(runs: Runs, run_id: str) -> RunRow | None:
    """The run with this very id."""
    with suppress(BadInput):
        return runs.get(run_id)
    return None
