"""The one database of a home: SQLite in WAL mode, a connection per thread, safe between processes.

The schema of every table is here; the SQL that reads and writes a table is in the module of the class that owns it.
All times are seconds since the epoch.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from shared_memory.errors import BadInput, Conflict, PostgradError, Unavailable

BUSY_SECONDS = 30.0
"""How long a statement waits for another process's write before it gives up."""

APPLICATION_ID = 0x50475244
"""`PGRD`, in the header of the file: tells our databases from other people's."""

MIGRATIONS = (
    """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY, text TEXT NOT NULL, goal TEXT NOT NULL,
        status TEXT NOT NULL, outcome TEXT NOT NULL,
        started REAL NOT NULL, ended REAL, updated REAL NOT NULL,
        request TEXT, answer TEXT, error TEXT NOT NULL, exit_code INTEGER,
        cancel_requested INTEGER NOT NULL, active_seconds REAL NOT NULL, driver TEXT NOT NULL
    );
    CREATE TABLE leases (
        run_id TEXT PRIMARY KEY, owner TEXT NOT NULL, pid INTEGER NOT NULL, pid_started REAL NOT NULL,
        host TEXT NOT NULL, heartbeat REAL NOT NULL
    );
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
        body TEXT NOT NULL, at REAL NOT NULL
    );
    CREATE INDEX journal_versions ON journal (run_id, kind, id, seq);
    CREATE TABLE decisions (
        seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, spec_digest TEXT NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX decisions_of_spec ON decisions (run_id, spec_digest, seq);
    CREATE TABLE actions (
        key TEXT PRIMARY KEY, run_id TEXT NOT NULL, experiment TEXT NOT NULL, purpose TEXT NOT NULL,
        spec_digest TEXT NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, backend_id TEXT NOT NULL,
        job TEXT, at REAL NOT NULL
    );
    CREATE INDEX actions_of_spec ON actions (run_id, experiment, purpose, spec_digest, attempt);
    CREATE TABLE bookings (
        run_id TEXT NOT NULL, key TEXT NOT NULL, role TEXT NOT NULL, settled INTEGER NOT NULL,
        usd_micro INTEGER NOT NULL, tokens INTEGER NOT NULL, jobs INTEGER NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (run_id, key)
    );
    """,
    """
    CREATE TABLE lessons (
        seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, experiment TEXT NOT NULL, body TEXT NOT NULL,
        benchmark TEXT NOT NULL, method TEXT NOT NULL, family TEXT NOT NULL, size TEXT NOT NULL,
        UNIQUE (run_id, experiment)
    );
    CREATE VIRTUAL TABLE lesson_words USING fts5 (words);
    """,
)
"""What brings the schema from each version to the next; released entries never change, new ones are appended."""

Params = Sequence[object] | Mapping[str, object]


class _Session:
    """One thread's connection; closed when the thread ends or the database is closed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.depth = 0
        """Transactions that are open inside one another."""

    def __del__(self) -> None:
        self.connection.close()


class Database:
    """A SQLite file shared by threads and processes; use `Database.open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._sessions: WeakSet[_Session] = WeakSet()
        self._closed = False

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open `path`, creating it (folders included) or bringing its schema up to date.

        Raises BadInput where the file is not ours or cannot be written, Conflict where it stays locked.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{path.parent} cannot be made ({error.strerror}); set POSTGRAD_HOME elsewhere") from error
        database = cls(path)
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    def execute(self, sql: str, params: Params = ()) -> list[sqlite3.Row]:
        """Run one statement and return its rows; outside a transaction it is durable on return.

        Raises PostgradError for a full or failing disk, Conflict for a lock that stays, BadInput for a file that is
        not a database. Faults of the statement itself (sqlite3.Error) pass.
        """
        with _boundary(self.path):
            return self._session().connection.execute(sql, params).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements of the block, or none; holds the write lock from its start.

        Inside another transaction of the same thread it becomes a savepoint: it can fail by itself, and what it did
        is kept when the outermost one is.
        """
        with _boundary(self.path):
            session = self._session()
        level = session.depth
        begin, keep, undo = (
            (f"SAVEPOINT level{level}", f"RELEASE level{level}", f"ROLLBACK TO level{level}")
            if level
            else ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        )
        try:
            self.execute(begin)
            session.depth = level + 1
            yield
            self.execute(keep)
        except BaseException:
            if session.connection.in_transaction:  # a full disk has already made SQLite roll back
                self.execute(undo)
            raise
        finally:
            session.depth = level

    @contextmanager
    def in_no_hurry(self) -> Iterator[None]:
        """What the block commits is safe at once from the end of a process, and from a power cut with the next commit
        outside of such a block, by whichever process: a worker's heartbeat makes one every few seconds.

        Not inside a transaction. It spares a wait for the disk where the same is known from elsewhere.
        """
        self.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            self.execute("PRAGMA synchronous=FULL")

    def close(self) -> None:
        """Close the connections of all threads; closing again does nothing."""
        self._closed = True
        for session in list(self._sessions):
            session.connection.close()

    def _session(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if self._closed:
            raise RuntimeError(f"{self.path} was closed")
        if session is None:
            session = self._local.session = self._connect()
            self._sessions.add(session)
        return session

    def _connect(self) -> _Session:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        session = _Session(connection)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous=FULL")  # in WAL mode, NORMAL may lose the last commits to a power cut
        return session

    def _migrate(self) -> None:
        if self.execute("PRAGMA journal_mode=WAL")[0][0] != "wal":
            raise BadInput(f"the file system of {self.path} cannot share a database; set POSTGRAD_HOME elsewhere")
        if self._version() == len(MIGRATIONS):
            return
        with self.transaction():
            for script in MIGRATIONS[self._version() :]:
                for statement in filter(None, map(str.strip, script.split(";"))):
                    self.execute(statement)
            self.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    def _version(self) -> int:
        """Version of the schema, 0 for a new file; raises BadInput for a schema that is not ours or from the future."""
        # one statement, one snapshot: another process may be making the schema right now
        (version, mark, tables), *_ = self.execute(
            "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)"
            " FROM pragma_user_version, pragma_application_id"
        )
        if mark != APPLICATION_ID and (version or tables):
            raise BadInput(f"{self.path} is not a postgrad database; move it away, or set POSTGRAD_HOME elsewhere")
        if version > len(MIGRATIONS):
            raise BadInput(
                f"{self.path} was written by a newer postgrad; upgrade postgrad, or set POSTGRAD_HOME elsewhere"
            )
        return int(version)


@contextmanager
def _boundary(path: Path) -> Iterator[None]:
    """Where SQLite's faults become ours."""
    try:
        yield
    except sqlite3.Error as error:
        if explained := _explained(path, error):
            raise explained from error
        raise


def _explained(path: Path, error: sqlite3.Error) -> PostgradError | None:
    """What a fault of SQLite means for a person; None for a fault of the statement.

    The codes are SQLite's primary result codes [https://sqlite.org/rescode.html].
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return PostgradError(f"the disk of {path} is full; free space, then `postgrad resume`")
    if code == sqlite3.SQLITE_IOERR:
        return PostgradError(f"the disk of {path} is full or failing ({error}); free space, then `postgrad resume`")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Conflict(f"{path} stays locked by another process; end that process, then `postgrad resume`")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return BadInput(f"{path} is not a postgrad database ({error}); move it away, or set POSTGRAD_HOME elsewhere")
    if "no such module: fts5" in str(error):
        return Unavailable(
            "the SQLite of this Python has no full-text search (FTS5); use another Python, such as uv's or python.org's"
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return BadInput(f"{path} cannot be written ({error}); mend its permissions, or set POSTGRAD_HOME elsewhere")
    return None
