"""What a run may still spend: reserve the worst case before an action, settle what it really took.

Dollars are integer micro-dollars. A hold counts as spent until it is settled or released, so holds and spend together
never exceed a cap by a reservation; only a bill above its hold can, and it is booked as it came.
"""

from __future__ import annotations

import time
from contextlib import nullcontext

from shared_memory.database import Database
from shared_memory.errors import BudgetSpent, Conflict
from shared_memory.goal import Limits
from shared_memory.records import MICRO_USD, Record


class Spend(Record):
    """Where the money went."""

    usd_micro: int
    """Settled."""
    held_usd_micro: int
    """Reserved and not settled yet."""
    llm_tokens: int
    """Settled."""
    held_llm_tokens: int
    jobs: int
    """Jobs reserved or settled."""
    by_role: dict[str, int]
    """Role → settled micro-dollars."""


class Budget:
    """The budget of one run: `limits` over the bookings in the database."""

    def __init__(self, db: Database, run_id: str, limits: Limits) -> None:
        self._db = db
        self._run_id = run_id
        self._limits = limits

    def reserve(
        self,
        key: str,
        usd_micro: int,
        *,
        role: str,
        jobs: int = 1,
        tokens: int = 0,
        kept_usd_micro: int = 0,
        hurry: bool = True,
    ) -> bool:
        """Hold the worst case of an action under `key`; False where it is held or settled, and stays as it is.

        Raises BudgetSpent, and holds nothing, where dollars (`kept_usd_micro` of them being kept back for something
        else), jobs or tokens would exceed their cap. A cap that is used up does not keep from asking for nothing of
        it: a free job still runs when the dollars are gone. Without `hurry` see Database.in_no_hurry.
        """
        _refuse_negative(usd_micro, jobs, tokens)
        with nullcontext() if hurry else self._db.in_no_hurry(), self._db.transaction():
            if self._settled(key) is not None:
                return False
            spend = self.spent()
            held = spend.held_usd_micro + kept_usd_micro
            self._require(usd_micro, spend.usd_micro, held, self._limits.usd_micro, "usd")
            self._require(tokens, spend.llm_tokens, spend.held_llm_tokens, self._limits.llm_tokens, "llm_tokens")
            self._require(jobs, spend.jobs, 0, self._limits.jobs, "jobs")
            self._db.execute(
                "INSERT INTO bookings (run_id, key, role, settled, usd_micro, tokens, jobs, at)"
                " VALUES (?, ?, ?, 0, ?, ?, ?, ?)",
                (self._run_id, key, role, usd_micro, tokens, jobs, time.time()),
            )
        return True

    def settle(self, key: str, usd_micro: int, tokens: int = 0, *, hurry: bool = True) -> None:
        """Replace the hold by what the action took, even above the hold; settling again books the later figure.

        Raises Conflict where nothing was reserved under `key`.
        """
        _refuse_negative(usd_micro, 0, tokens)
        with nullcontext() if hurry else self._db.in_no_hurry():
            booked = self._db.execute(
                "UPDATE bookings SET settled = 1, usd_micro = ?, tokens = ?, at = ?"
                " WHERE run_id = ? AND key = ? RETURNING key",
                (usd_micro, tokens, time.time(), self._run_id, key),
            )
        if not booked:
            raise Conflict(f"nothing is reserved for {key}; reserve before spending")

    def release(self, key: str) -> None:
        """Drop the hold of an action that never happened; raises Conflict where it was settled."""
        with self._db.transaction():
            if self._settled(key):
                raise Conflict(f"{key} was paid for and cannot be released; settle it with the right figure")
            self._db.execute("DELETE FROM bookings WHERE run_id = ? AND key = ?", (self._run_id, key))

    def spent(self) -> Spend:
        """The totals as they stand."""
        rows = self._db.execute(
            "SELECT role, settled, sum(usd_micro) AS usd, sum(tokens) AS tokens, sum(jobs) AS jobs"
            " FROM bookings WHERE run_id = ? GROUP BY role, settled ORDER BY min(rowid)",
            (self._run_id,),
        )
        settled = [row for row in rows if row["settled"]]
        held = [row for row in rows if not row["settled"]]
        return Spend(
            usd_micro=sum(row["usd"] for row in settled),
            held_usd_micro=sum(row["usd"] for row in held),
            llm_tokens=sum(row["tokens"] for row in settled),
            held_llm_tokens=sum(row["tokens"] for row in held),
            jobs=sum(row["jobs"] for row in rows),
            by_role={row["role"]: row["usd"] for row in settled},
        )

    def tokens_by_role(self) -> dict[str, int]:
        """Role → settled tokens of language models; roles without any are left out."""
        rows = self._db.execute(
            "SELECT role, sum(tokens) AS tokens FROM bookings WHERE run_id = ? AND settled = 1"
            " GROUP BY role HAVING sum(tokens) > 0 ORDER BY min(rowid)",
            (self._run_id,),
        )
        return {row["role"]: row["tokens"] for row in rows}

    def _settled(self, key: str) -> bool | None:
        """Whether a key is settled; None where it is not booked."""
        rows = self._db.execute("SELECT settled FROM bookings WHERE run_id = ? AND key = ?", (self._run_id, key))
        return bool(rows[0]["settled"]) if rows else None

    def _require(self, asked: int, spent: int, held: int, cap: int, limit: str) -> None:
        if not asked or spent + held + asked <= cap:
            return
        show = dollars if limit == "usd" else "{:,}".format
        raise BudgetSpent(
            f"limits.{limit} is {show(cap)}: {show(spent)} spent, {show(held)} held, and this asks for"
            f" {show(asked)} more; raise it in the goal to go on"
        )


def dollars(usd_micro: int) -> str:
    """Micro-dollars as a person reads them: cents, and more digits only where they are not zero."""
    whole, _, fraction = f"{usd_micro / MICRO_USD:,.6f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def _refuse_negative(*amounts: int) -> None:
    if min(amounts) < 0:
        raise ValueError(f"amounts are never negative: {amounts}")
