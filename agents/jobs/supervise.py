"""The program that owns one local job from its claim to its exit status. Standard library only; `local.py` starts it.

    python -I supervise.py '{"folder": F, "key": K, "command": […], "timeout": 60, "grace": 10, "slots": […]}'

It prints `claimed` (or `held`: another supervisor has the job) once, then detaches: it outlives whoever started it.
What it keeps in the job folder:

    supervisor.lock   flock held as long as the supervisor lives
    status.json       written under that lock; from its first version on, nobody else ever starts this job
    log.txt           standard output and standard error of the job, in order
    cancel            made by others: a request to end

Killed with -9 before status.json exists, a supervisor leaves nothing behind, and the job can be submitted again.
Killed later, it takes the job along (Linux: the kernel's parent-death signal), and `examine` records the failure for
whoever asks next. So a job runs at most once per key, and never unsupervised.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

if __name__ == "__main__":  # Run as a file, and with -I: the packages beside it are not on the path.
    sys.path.append(str(Path(__file__).parents[2]))

from agents import warden

STATUS, LOG, CANCEL, LOCK = "status.json", "log.txt", "cancel", "supervisor.lock"
STAMP = "POSTGRAD_JOB"
"""Variable that marks every process of a job with its key."""
PR_SET_PDEATHSIG = 1
"""<linux/prctl.h>"""
GIB = 2**30
MEMORY_LOOK_SECONDS = 0.05
"""Between two looks at the memory of a job that has a limit; a fast one gets a little further before it is ended."""
DISK_FULL_BYTES = 2**20
"""Room under which a job's failure is laid to the disk."""
DISK_FULL_SECONDS = 600
"""How long an exit status waits for room on a full disk."""


class Slot(TypedDict):
    lock: str
    """File whose flock is the device."""
    gpu: str
    """Its index; empty for the CPU."""


class Devices(TypedDict):
    """Which of the machine's devices would do."""

    slots: list[Slot]
    """Empty where somebody else gives the devices out."""
    devices: int
    """How many of the slots the job takes."""


class Order(Devices):
    """What the supervisor is told."""

    folder: str
    key: str
    command: list[str]
    """Program and arguments, started in the folder."""
    timeout: float
    """Seconds of running."""
    grace: float
    """Seconds between SIGTERM and SIGKILL."""
    memory: int
    """Bytes that its processes may use together; 0 for no limit."""


@dataclass
class Status:
    """status.json. Times are seconds since the epoch."""

    supervisor: int
    """Process id, for a person who looks; whether it lives is known from its lock."""
    queued: float
    state: str = "queued"
    exit_code: int | None = None
    error: str = ""
    started: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    """Running time; 0 until it has ended."""

    @property
    def terminal(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


def read_status(folder: Path) -> Status | None:
    """None before the job was claimed."""
    try:
        return Status(**json.loads((folder / STATUS).read_text()))
    except FileNotFoundError:
        return None


def write_status(folder: Path, status: Status) -> None:
    """Replace status.json, durably. Only for the holder of the lock."""
    temporary = folder / f".{STATUS}.{os.getpid()}.part"
    with temporary.open("w") as stream:
        json.dump(asdict(status), stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / STATUS)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def try_lock(path: Path) -> int | None:
    """An open file that holds the lock of `path` until it is closed; None while another process holds it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def wait_for_lock(path: Path) -> int:
    """An open file that holds the lock of `path` until it is closed, as soon as no other process holds it."""
    while (lock := try_lock(path)) is None:
        time.sleep(0.01)
    return lock


def claim(folder: Path) -> bool:
    """Take the job for good (the lock stays held until this process ends); False where another supervisor did."""
    while try_lock(folder / LOCK) is None:
        if (folder / STATUS).exists():
            return False
        time.sleep(0.01)  # The holder is about to write it, or about to die.
    if (folder / STATUS).exists():
        return False
    write_status(folder, Status(supervisor=os.getpid(), queued=time.time()))
    return True


def examine(folder: Path, key: str) -> Status | None:
    """The true status of the job: settles, once and for all, one whose supervisor is dead. None before the claim.

    One without a lock runs on another machine, and only that one's scheduler knows whether its supervisor lives.
    """
    status = read_status(folder)
    if status is None or status.terminal or not (folder / LOCK).exists():
        return status
    lock = try_lock(folder / LOCK)
    if lock is None:
        return status
    try:
        status = read_status(folder)  # It may have ended between the first look and the lock.
        if status is None or status.terminal:
            return status
        kill_stamped(key)
        status.state = "cancelled" if (folder / CANCEL).exists() else "failed"
        status.error = "its supervisor was killed, or the machine went down"
        if status.started is None:
            status.error += ", before the job had started"
        else:
            # Nobody saw it end: the last word of the log is the last sign of life.
            status.ended = max(status.started, (folder / LOG).stat().st_mtime)
            status.seconds = status.ended - status.started
        write_status(folder, status)
        return status
    finally:
        os.close(lock)


def kill_stamped(key: str) -> None:
    """Kill every process that carries the key in its environment: also those that left the job's process group.

    Unlike a process id, the stamp cannot have gone to a stranger after a restart. Needs /proc: does nothing without it.
    """
    stamp = f"{STAMP}={key}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # Gone by now, or another user's.
            if stamp in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)


class Supervisor:
    """Waits for a device, runs the job on it, and records how it ended."""

    def __init__(self, order: Order, status: Status) -> None:
        self.order = order
        self.folder = Path(order["folder"])
        self.status = status
        self.told_to_end = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def run(self) -> None:
        taken = self._wait_for_slots()
        if taken is None:
            self._record_end(*self._stop_request())
            return
        # Recorded first: with the job running there must be no waiting for room on the disk.
        self.status.state, self.status.started = "running", time.time()
        self._record()
        began = time.monotonic()
        try:
            process = self._start(_environment_of(taken))
        except OSError as error:
            self._record_end("failed", f"it could not be started: {error}")
            return
        stopped, reason = self._watch(process.pid, began)
        self.status.seconds = time.monotonic() - began
        self.status.exit_code = process.wait()
        if self.status.exit_code == -signal.SIGTERM and not stopped:
            stopped, reason = self._stop_request()  # Whoever told this process to end told the job as well.
        if self.status.exit_code and not stopped and _disk_is_full(self.folder):
            reason = "the disk is full; make room, then resume"  # The job's own words found no room in the log.
        self._record_end(stopped or ("failed" if self.status.exit_code else "succeeded"), reason)

    def _wait_for_slots(self) -> list[Slot] | None:
        """As many free devices as are asked for, locked until this process ends; None if the job is to end first.

        All or none: two jobs that hold a part each would wait for one another.
        """
        while not self._stop_request()[0]:
            taken: list[Slot] = []
            locks: list[int] = []
            for slot in self.order["slots"]:
                if len(taken) < self.order["devices"] and (lock := try_lock(Path(slot["lock"]))) is not None:
                    taken.append(slot)
                    locks.append(lock)
            if len(taken) == self.order["devices"] or not self.order["slots"]:
                return taken
            for lock in locks:
                os.close(lock)
            time.sleep(0.2)
        return None

    def _start(self, device: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / LOG).open("ab") as log:
            return subprocess.Popen(
                self.order["command"],
                cwd=self.folder,
                env={**os.environ, **device, STAMP: self.order["key"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=_dies_with_this_process(),
            )

    def _watch(self, pid: int, began: float) -> tuple[str, str]:
        """Wait for the end of the job, bringing it about if need be; then clear away what is left of its processes.

        Returns the state and the reason of a stop, two empty texts if it ended by itself.
        """
        stopped, reason, kill_at = "", "", float("inf")
        longest = MEMORY_LOOK_SECONDS if self.order["memory"] else 0.2
        while not _has_ended(pid):
            now = time.monotonic()
            if not stopped:
                stopped, reason = self._stop_request(running=now - began)
                if stopped:
                    os.killpg(pid, signal.SIGTERM)
                    kill_at = now + self.order["grace"]
                elif reason := self._memory_is_passed():
                    stopped, kill_at = "failed", now  # No time to tidy up: it would take what others need.
            if now >= kill_at:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(0.02 if now - began < 2 else longest)
        # The ended leader is not reaped yet, so the group's number is still its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        kill_stamped(self.order["key"])
        return stopped, reason

    def _stop_request(self, running: float = 0.0) -> tuple[str, str]:
        """State and reason with which the job has to end now; two empty texts if it may go on."""
        if (self.folder / CANCEL).exists():
            return "cancelled", "cancelled on request"
        if self.told_to_end:
            return "failed", "stopped: the machine shuts down, or somebody ended its supervisor"
        if running > self.order["timeout"]:
            return "failed", f"timed out after {self.order['timeout']:g} s"
        return "", ""

    def _memory_is_passed(self) -> str:
        """Why the job ends for the memory that it uses; empty while that is within its limit."""
        most = self.order["memory"]
        if not most or (used := warden.look(os.getpid()).memory) <= most:
            return ""
        return (
            f"out of memory: it used {used / GIB:.2f} GiB of the machine's memory and may use {most / GIB:.2f}; "
            "use a smaller micro-batch or more memory"
        )

    def _record_end(self, state: str, error: str) -> None:
        self.status.state, self.status.error, self.status.ended = state, error, time.time()
        self._record()

    def _record(self) -> None:
        """Write the status; on a full disk, wait for room, because an exit status cannot be had again."""
        give_up_at = time.monotonic() + DISK_FULL_SECONDS
        while True:
            try:
                write_status(self.folder, self.status)
                return
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or time.monotonic() > give_up_at:
                    raise
            time.sleep(1)

    def _on_sigterm(self, *_: Any) -> None:
        self.told_to_end = True


def _environment_of(taken: list[Slot]) -> dict[str, str]:
    """What shows a job its devices and no others; nothing where somebody else gives them out."""
    if not taken:
        return {}
    gpus = ",".join(slot["gpu"] for slot in taken)
    return {"CUDA_VISIBLE_DEVICES": gpus, **({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if gpus else {})}


def _disk_is_full(folder: Path) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < DISK_FULL_BYTES


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _dies_with_this_process() -> Callable[[], None]:
    """For the child, between fork and exec: have the kernel kill it when its parent dies."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    parent = os.getpid()

    def tie() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    return tie


def main() -> None:
    order: Order = json.loads(sys.argv[1])
    folder = Path(order["folder"])
    if os.fork():
        os._exit(0)  # The supervisor becomes init's child: nobody has to reap it.
    claimed = claim(folder)
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"claimed\n" if claimed else b"held\n")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(nowhere, 1)
    os.dup2(log, 2)
    status = read_status(folder)
    if claimed and status is not None:
        Supervisor(order, status).run()


if __name__ == "__main__":
    main()
