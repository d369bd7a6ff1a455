from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import shared_memory.database
from shared_memory.database import Database
from shared_memory.errors import BadInput, Conflict, PostgradError

ROOT = Path(shared_memory.database.__file__).parents[1]


def notes(db: Database) -> list[str]:
    return [row["body"] for row in db.execute("SELECT body FROM journal ORDER BY seq")]


def add(db: Database, body: str) -> None:
    db.execute("INSERT INTO journal (run_id, kind, id, body, at) VALUES ('r', 'k', 'i', ?, 0)", (body,))


def add_and_fail(db: Database, body: str, error: BaseException) -> None:
    with db.transaction():
        add(db, body)
        raise error


def test_a_new_database_is_durable_and_shared_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "new" / "home" / "postgrad.db"
    first = Database.open(path)
    assert first.execute("PRAGMA journal_mode")[0][0] == "wal"
    assert first.execute("PRAGMA synchronous")[0][0] == 2
    add(first, "a")
    first.close()
    first.close()
    second = Database.open(path)
    assert notes(second) == ["a"]
    second.close()


def test_a_failed_transaction_leaves_nothing_behind(db: Database) -> None:
    with pytest.raises(KeyboardInterrupt):
        add_and_fail(db, "lost", KeyboardInterrupt())
    with db.transaction():
        add(db, "kept")
    assert notes(db) == ["kept"]


def test_an_inner_transaction_can_fail_by_itself(db: Database) -> None:
    with db.transaction():
        add(db, "outer")
        with pytest.raises(ValueError, match="inner"):
            add_and_fail(db, "lost", ValueError("inner"))
        with db.transaction():
            add(db, "inner")
    assert notes(db) == ["outer", "inner"]


def test_an_inner_transaction_shares_the_fate_of_the_outer(db: Database) -> None:
    def fail_after_an_inner_one() -> None:
        with db.transaction():
            with db.transaction():
                add(db, "inner")
            raise ValueError("outer")

    with pytest.raises(ValueError, match="outer"):
        fail_after_an_inner_one()
    assert notes(db) == []


def test_threads_write_side_by_side_and_read_modify_write_loses_nothing(db: Database) -> None:
    add(db, "0")

    def count_up(_: int) -> None:
        for _ in range(10):
            with db.transaction():
                db.execute("UPDATE journal SET body = ?", (str(int(notes(db)[0]) + 1),))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(8)))
    assert notes(db) == ["80"]


def test_the_connection_of_a_thread_ends_with_it(db: Database) -> None:
    seen: list[weakref.ref[object]] = []

    def use() -> None:
        add(db, "a")
        seen.append(weakref.ref(db._session()))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    gc.collect()
    assert seen[0]() is None
    assert notes(db) == ["a"]


def test_processes_that_open_a_new_database_at_once_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from shared_memory.database import Database;"
        "sys.stdin.readline(); db = Database.open(Path(sys.argv[1])); print(len(db.execute('SELECT * FROM runs')))"
    )
    path = str(tmp_path / "postgrad.db")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["0\n"] * 4


def test_a_full_disk_is_said_in_one_line_and_loses_nothing_that_was_kept(db: Database) -> None:
    add(db, "kept")
    pages = db.execute("PRAGMA page_count")[0][0]
    db.execute(f"PRAGMA max_page_count={pages}")
    full = r"the disk of .*postgrad.db is full; free space, then `postgrad resume`"
    with pytest.raises(PostgradError, match=full), db.transaction():
        add(db, "x" * 1_000_000)
    assert notes(db) == ["kept"]
    db.execute("PRAGMA max_page_count=1000000")
    add(db, "after")
    assert notes(db) == ["kept", "after"]


def test_a_disk_that_refuses_writes_is_said_in_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from shared_memory.database import Database;"
        "from shared_memory.errors import PostgradError; db = Database.open(Path(sys.argv[1]));"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: db.execute('INSERT INTO journal VALUES (1, ?, ?, ?, ?, 0)', ('r', 'k', 'i', 'x' * 1_000_000))\n"
        "except PostgradError as error: print(error)"
    )
    path = str(tmp_path / "postgrad.db")
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"the disk of {path} is full")
    assert done.stdout.endswith("free space, then `postgrad resume`\n")


def test_a_lock_that_stays_is_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory.database, "BUSY_SECONDS", 0.1)
    one, other = Database.open(tmp_path / "db"), Database.open(tmp_path / "db")
    with one.transaction(), pytest.raises(Conflict, match="locked by another process"):
        add(other, "a")
    add(other, "b")
    assert notes(one) == ["b"]
    one.close()
    other.close()


def test_files_that_are_not_ours_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("shopping list\n" * 100)
    with pytest.raises(BadInput, match="is not a postgrad database"):
        Database.open(text)
    assert text.read_text() == "shopping list\n" * 100

    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    with pytest.raises(BadInput, match="is not a postgrad database"):
        Database.open(foreign)


def test_a_database_from_the_future_asks_for_an_upgrade(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "postgrad.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(BadInput, match="upgrade postgrad"):
        Database.open(tmp_path / "postgrad.db")


def test_a_folder_that_cannot_be_made_or_opened_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="set POSTGRAD_HOME elsewhere"):
        Database.open(tmp_path / "file" / "postgrad.db")
    with pytest.raises(BadInput, match="set POSTGRAD_HOME elsewhere"):
        Database.open(tmp_path)
