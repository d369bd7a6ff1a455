"""Who drives a run: at most one process holds its lease, and a dead one loses it at once."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from shared_memory.database import Database
from shared_memory.errors import Conflict, PostgradError
from shared_memory.records import Record

BEAT_SECONDS = 5.0
EXPIRES_SECONDS = 30.0
"""A lease that has not been renewed for so long is free, wherever its process is."""


class LeaseRow(Record):
    """Who holds a lease."""

    run_id: str
    owner: str
    """Random, one per acquisition."""
    pid: int
    pid_started: float
    """When the process began: a reused pid is another process."""
    host: str
    heartbeat: float
    """Seconds since the epoch."""

    @property
    def live(self) -> bool:
        """Renewed of late (by a clock that may have been set back), and its process not known to be dead."""
        if abs(time.time() - self.heartbeat) > EXPIRES_SECONDS:
            return False
        return self.host != socket.gethostname() or _is_alive(self.pid, self.pid_started)


class Lease:
    """The right to drive one run; `acquire` it, then work inside `held()`."""

    def __init__(self, db: Database, row: LeaseRow) -> None:
        self._db = db
        self._lost = threading.Event()
        self.row = row

    @classmethod
    def acquire(cls, db: Database, run_id: str) -> Lease | None:
        """The lease, where nobody holds it; None where a live process does (this one included)."""
        with db.transaction():
            if holder(db, run_id):
                return None
            row = LeaseRow(
                run_id=run_id,
                owner=uuid.uuid4().hex,
                pid=os.getpid(),
                pid_started=psutil.Process().create_time(),
                host=socket.gethostname(),
                heartbeat=time.time(),
            )
            db.execute(
                "REPLACE INTO leases (run_id, owner, pid, pid_started, host, heartbeat)"
                " VALUES (:run_id, :owner, :pid, :pid_started, :host, :heartbeat)",
                row.plain(),
            )
        return cls(db, row)

    @property
    def lost(self) -> bool:
        """Whether another process may drive the run by now: stop without touching it."""
        return self._lost.is_set()

    def check(self) -> None:
        """Raise Conflict if the lease is lost."""
        if self.lost:
            raise Conflict(f"another process took run `{self.row.run_id}` over; `postgrad attach` follows it")

    def heartbeat(self) -> None:
        """Renew the lease; raises Conflict (and sets `lost`) if somebody else took it."""
        if not self._db.execute(
            "UPDATE leases SET heartbeat = ? WHERE run_id = ? AND owner = ? RETURNING owner",
            (time.time(), self.row.run_id, self.row.owner),
        ):
            self._lost.set()
        self.check()

    def release(self) -> None:
        """Give the lease back; does nothing if it is no longer ours."""
        self._db.execute("DELETE FROM leases WHERE run_id = ? AND owner = ?", (self.row.run_id, self.row.owner))

    @contextmanager
    def held(self, every: float = BEAT_SECONDS) -> Iterator[Lease]:
        """Renew in the background every `every` seconds, and release at the end."""
        stop = threading.Event()
        thread = threading.Thread(target=self._beat, args=(stop, every), name="lease", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
            with suppress(PostgradError):  # a full disk: the lease dies with this process anyway
                self.release()

    def _beat(self, stop: threading.Event, every: float) -> None:
        renewed = time.monotonic()
        while not stop.wait(every):
            try:
                self.heartbeat()
                renewed = time.monotonic()
            except PostgradError:  # taken over; or a locked or full disk, which the next beat may find mended
                if time.monotonic() - renewed > EXPIRES_SECONDS:
                    self._lost.set()
                if self.lost:
                    return


def holder(db: Database, run_id: str) -> LeaseRow | None:
    """The live process that drives a run."""
    rows = db.execute("SELECT * FROM leases WHERE run_id = ?", (run_id,))
    row = LeaseRow.model_validate(dict(rows[0])) if rows else None
    return row if row and row.live else None


def _is_alive(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        # the start is derived from the wall clock, which a time server may nudge
        return abs(process.create_time() - started) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
