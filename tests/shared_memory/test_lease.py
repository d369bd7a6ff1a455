from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import shared_memory
from shared_memory.database import Database
from shared_memory.errors import Conflict
from shared_memory.lease import EXPIRES_SECONDS, Lease, holder

ROOT = Path(shared_memory.__file__).parents[1]

CONTENDER = """
import sys, time
from pathlib import Path
from shared_memory.database import Database
from shared_memory.lease import Lease
db = Database.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
lease = Lease.acquire(db, "r1")
print("mine" if lease else "taken", flush=True)
if lease:
    with lease.held():
        time.sleep(60)
"""


def contender(db: Database) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CONTENDER, str(db.path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert said(process) == "ready"
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_of_processes_that_race_one_drives_and_a_killed_one_is_replaced_at_once(db: Database) -> None:
    racers = [contender(db), contender(db), contender(db)]
    try:
        for racer in racers:
            go(racer)
        answers = [said(racer) for racer in racers]
        assert sorted(answers) == ["mine", "taken", "taken"]
        winner = racers[answers.index("mine")]
        driver = holder(db, "r1")
        assert driver
        assert driver.pid == winner.pid
        assert Lease.acquire(db, "r1") is None

        winner.send_signal(signal.SIGKILL)
        until = time.monotonic() + 5
        while holder(db, "r1") and time.monotonic() < until:  # not waited for: it stays a zombie
            time.sleep(0.01)
        assert Lease.acquire(db, "r1")
    finally:
        for racer in racers:
            end(racer)


def test_a_lease_is_exclusive_until_it_is_released(db: Database) -> None:
    lease = Lease.acquire(db, "r1")
    assert lease
    assert Lease.acquire(db, "r1") is None
    assert Lease.acquire(db, "r2")
    with lease.held() as held:
        assert holder(db, "r1") == held.row
    assert holder(db, "r1") is None
    assert Lease.acquire(db, "r1")


def test_a_driver_renews_in_the_background(db: Database) -> None:
    lease = Lease.acquire(db, "r1")
    assert lease
    with lease.held(every=0.01):
        until = time.monotonic() + 5
        while time.monotonic() < until:
            now = holder(db, "r1")
            assert now
            if now.heartbeat > lease.row.heartbeat:
                return
    pytest.fail("never renewed")


def test_a_lease_that_is_not_renewed_is_taken_over_and_its_owner_notices(db: Database) -> None:
    sleeper = Lease.acquire(db, "r1")
    assert sleeper
    db.execute("UPDATE leases SET heartbeat = heartbeat - ?", (EXPIRES_SECONDS + 1,))
    successor = Lease.acquire(db, "r1")
    assert successor
    with sleeper.held(every=0.01):
        until = time.monotonic() + 5
        while not sleeper.lost and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(Conflict, match="took run `r1` over"):
            sleeper.check()
    assert holder(db, "r1") == successor.row, "a lost lease releases nothing"


def test_a_reused_pid_is_not_mistaken_for_the_driver(db: Database) -> None:
    assert Lease.acquire(db, "r1")
    db.execute("UPDATE leases SET pid_started = pid_started - 3600")
    assert holder(db, "r1") is None
    assert Lease.acquire(db, "r1")


def test_a_process_of_another_host_is_believed_by_its_heartbeat(db: Database) -> None:
    assert Lease.acquire(db, "r1")
    db.execute("UPDATE leases SET host = 'elsewhere', pid = 999999999")
    assert holder(db, "r1")
    db.execute("UPDATE leases SET heartbeat = heartbeat - ?", (EXPIRES_SECONDS + 1,))
    assert holder(db, "r1") is None


def test_a_database_in_trouble_does_not_end_the_driver(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared_memory.database.BUSY_SECONDS", 0.01)
    lease = Lease.acquire(db, "r1")
    assert lease
    with lease.held(every=0.01):
        with db.transaction():
            time.sleep(0.1)
        assert not lease.lost
        before = time.time()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            now = holder(db, "r1")
            if now and now.heartbeat > before:
                return
    pytest.fail("never renewed after the lock was gone")
