"""Runs one program under limits and ends it with all that it started. Standard library only; `sandbox.py` starts it.

    python -I -S warden.py '{"argv": […], "folder": F, "memory": 536870912, …}'

It stands outside of the sandbox, between whoever wants the result and the program, because the kernel's own limits
(setrlimit) hold for one process, and some of them not for root. It looks at the whole tree of processes every few
milliseconds, and whichever limit is passed first ends all of them. Ended itself, by a signal or with its parent, it
takes them along: orphans of the program become its children (Linux: PR_SET_CHILD_SUBREAPER), so none is lost sight of.

Standard output and error of the program are the warden's own, and files: what was printed is their size. Its exit code
is the program's, 128 + n where signal n ended it, or EXIT_LIMIT.
"""

# Without pathlib, which takes longer to import than this takes to start a program.
# ruff: noqa: PTH101, PTH108, PTH112, PTH208
from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

EXIT_LIMIT = 124
"""Exit code where a limit ended the program; the same as timeout(1)."""
EXIT_NOT_STARTED = 127
"""Exit code where there is no such program; the same as a shell's."""
FILTER_FD = 9
"""File that bubblewrap reads the system call filter from."""
FIRST_LOOK, LONGEST_WAIT = 0.005, 0.05
"""Seconds between two looks at the processes: often at first, then so that it costs under 1 % of a core."""
WALK_SHARE = 0.05
"""Part of the time that measuring a folder of many files may take."""
DEEPEST = 64
"""Nested folders; deeper ones hide from tools that work with paths, and are taken for an attempt to."""
MOST_FILES = 10_000
"""Files and folders: empty ones take no bytes, but may use up a file system."""
REWRITES = 4
"""Bytes written, over those kept at once: a file that was unlinked while open is in no folder, but in this count."""
THREADS = 64
"""Threads a process, on average: numerical libraries start one a core."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""<linux/prctl.h>"""


class Order(TypedDict):
    """What the warden is told. Sizes are bytes, times are seconds."""

    argv: list[str]
    environment: dict[str, str]
    cwd: str
    folder: str
    """The one folder that the program may write to."""
    helpers: int
    """Processes that come with the sandbox itself and do not count."""
    filter: str
    """System call filter as hexadecimal digits, handed over as file FILTER_FD; empty for none."""
    report: int
    """File to write the Report to; -1 to print its error on standard error instead."""
    seconds: float
    cpu_seconds: float | None
    memory: int
    processes: int
    file_size: int
    disk: int
    output: int


class Report(TypedDict):
    exit_code: int
    limit: str | None
    """The limit that was passed: time, cpu, memory, processes, file_size, disk or output."""
    error: str
    """What it did, in a sentence; empty where no limit was passed."""
    seconds: float
    peak_memory: int


class Sample(NamedTuple):
    """What a tree of processes uses at one moment."""

    processes: int
    threads: int
    memory: int
    """Bytes that belong to no file, swapped out or not. What two processes share counts twice: rather too much."""
    cpu: float
    """Seconds, of ended children too."""
    written: int
    """Bytes handed to the disk, of ended children too."""


class Usage(NamedTuple):
    """What a folder holds."""

    size: int
    """Bytes on the disk."""
    largest: int
    entries: int
    too_deep: bool


class Warden:
    """One program, from its start to the death of its last process."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.peak = 0
        self.written = 0
        self.usage = Usage(0, 0, 0, False)
        self.walk_at = 0.0
        self.exit_code: int | None = None
        self.parent = os.getppid()
        self.told_to_end = False

    def run(self) -> Report:
        signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        began = time.monotonic()
        self.program = self._start(signals)
        wait, limit = FIRST_LOOK, ""
        while not limit and not self.told_to_end:
            heard = signal.sigtimedwait(signals, wait)
            self.told_to_end = os.getppid() != self.parent or (heard is not None and heard.si_signo != signal.SIGCHLD)
            self._reap()
            if self.exit_code is not None:
                break
            limit = self._passed(time.monotonic() - began)
            wait = min(wait * 1.3, LONGEST_WAIT)
        seconds = time.monotonic() - began
        self._end_all()
        limit = limit or self._passed_at_the_end()
        sweep(self.order["folder"])
        kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return Report(
            exit_code=EXIT_LIMIT if limit else self.exit_code if self.exit_code is not None else 128 + signal.SIGKILL,
            limit=limit or None,
            error=self._words(limit) if limit else "",
            seconds=seconds,
            peak_memory=max(self.peak, kilobytes * 1024),
        )

    def _start(self, blocked: set[signal.Signals]) -> int:
        order = self.order
        program = os.fork()
        if program:
            return program
        try:
            os.setsid()
            if order["filter"]:
                read, write = os.pipe()
                os.write(write, bytes.fromhex(order["filter"]))
                os.close(write)
                os.dup2(read, FILTER_FD)
            os.chdir(order["cwd"])
            limit_this_process(order)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
            os.execve(order["argv"][0], order["argv"], order["environment"])  # noqa: S606  no shell is wanted
        except OSError as error:
            os.write(2, f"error: {order['argv'][0]} could not be started: {error.strerror}\n".encode())
        finally:
            os._exit(EXIT_NOT_STARTED)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self.program:
                    code = os.waitstatus_to_exitcode(status)
                    self.exit_code = code if code >= 0 else 128 - code

    def _passed(self, seconds: float) -> str:
        """The limit that is passed at this moment; empty if none is."""
        order = self.order
        if seconds > order["seconds"]:
            return "time"
        now = look(os.getpid())
        self.peak, self.written = max(self.peak, now.memory), max(self.written, now.written)
        if now.processes - order["helpers"] > order["processes"] or now.threads > order["processes"] * THREADS:
            return "processes"
        if now.memory > order["memory"]:
            return "memory"
        if order["cpu_seconds"] is not None and now.cpu > order["cpu_seconds"]:
            return "cpu"
        if _printed() > order["output"]:
            return "output"
        began = time.monotonic()
        if began >= self.walk_at:
            self.usage = measure(order["folder"])
            took = time.monotonic() - began
            self.walk_at = began + max(LONGEST_WAIT, took / WALK_SHARE)
        return "disk" if self._disk_is_passed() else ""

    def _disk_is_passed(self) -> bool:
        usage, most = self.usage, self.order["disk"]
        return (
            usage.size > most
            or usage.entries > MOST_FILES
            or usage.too_deep
            or self.written > most * REWRITES + self.order["output"]
        )

    def _passed_at_the_end(self) -> str:
        """The limit that a program had met that ended by itself, or by a limit that the kernel watches."""
        if self.told_to_end:
            return ""
        if self.exit_code == 128 + signal.SIGXCPU:
            return "cpu"
        if _printed() > self.order["output"]:
            return "output"
        self.usage = measure(self.order["folder"])
        if self.exit_code and self.usage.largest >= self.order["file_size"]:
            return "file_size"
        return "disk" if self._disk_is_passed() else ""

    def _words(self, limit: str) -> str:
        order = self.order
        return {
            "time": f"it ran longer than {order['seconds']:g} s",
            "cpu": f"it used more than {order['cpu_seconds'] or 0:g} s of processor time",
            "memory": f"it used more than {_size(order['memory'])} of memory",
            "processes": f"it started more than {order['processes']} processes, or {THREADS} threads for each",
            "file_size": f"it wrote a file of more than {_size(order['file_size'])}",
            "disk": f"it wrote more than {_size(order['disk'])} or {MOST_FILES:,} files, or nested them {DEEPEST} deep",
            "output": f"it printed more than {_size(order['output'])}",
        }[limit]

    def _end_all(self) -> None:
        """Kill what is left until nothing is: parents first, so that in a sandbox its whole namespace falls at once."""
        while (left := list(tree(os.getpid())))[1:]:
            for pid in left[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, FIRST_LOOK)
            self._reap()


def limit_this_process(order: Order) -> None:
    """The kernel's own limits. They hold at once, and for each process by itself."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: order["file_size"],
        # Private writable memory. RLIMIT_AS would count mapped files and mere reservations, which runtimes make freely.
        resource.RLIMIT_DATA: order["memory"],
        resource.RLIMIT_MEMLOCK: 2**16,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: 1024,
    }
    if order["cpu_seconds"] is not None:
        limits[resource.RLIMIT_CPU] = math.ceil(order["cpu_seconds"]) + 1
    for name, value in limits.items():
        _, hard = resource.getrlimit(name)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (most, most))


def tree(root: int) -> Iterator[int]:
    """`root` and all its descendants, parents first."""
    waiting = [root]
    while waiting:
        pid = waiting.pop(0)
        yield pid
        with contextlib.suppress(OSError):  # It has ended by now.
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):
                    waiting += map(int, _read(f"/proc/{pid}/task/{task}/children").split())


def look(root: int) -> Sample:
    """What the descendants of `root` use."""
    processes = threads = memory = ticks = written = 0
    for pid in tree(root):
        if pid == root:
            continue
        with contextlib.suppress(OSError):
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            processes += 1
            ticks += sum(map(int, fields[11:15]))
            threads += int(fields[17])
            for line in _read(f"/proc/{pid}/status").splitlines():
                if line.startswith((b"RssAnon:", b"RssShmem:", b"VmSwap:")):
                    memory += int(line.split()[1]) * 1024
            for line in _read(f"/proc/{pid}/io").splitlines():
                if line.startswith(b"write_bytes:"):
                    written += int(line.split()[1])
    return Sample(processes, threads, memory, ticks / os.sysconf("SC_CLK_TCK"), written)


def measure(folder: str) -> Usage:
    """What lies in `folder`, links not followed. What vanishes while it is looked at does not count."""
    size = largest = entries = 0
    waiting, too_deep = [(folder, 0)], False
    while waiting and entries <= MOST_FILES:
        place, depth = waiting.pop()
        if depth > DEEPEST:
            too_deep = True
            continue
        with contextlib.suppress(OSError), os.scandir(place) as found:
            for entry in found:
                entries += 1
                if entries > MOST_FILES:
                    break
                with contextlib.suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    size += facts.st_blocks * 512
                    largest = max(largest, facts.st_size if stat.S_ISREG(facts.st_mode) else 0)
                    if stat.S_ISDIR(facts.st_mode):
                        waiting.append((entry.path, depth + 1))
    return Usage(size, largest, entries, too_deep)


def sweep(folder: str) -> None:
    """Leave nothing in `folder` but plain files and folders: no link, pipe, socket or device, and no setuid bit.

    Only for when nothing runs any more that could put another thing in the place of what was looked at.
    """
    waiting = [(folder, 0)]
    while waiting:
        place, depth = waiting.pop()
        if depth > DEEPEST:
            _remove_tree(place)
            continue
        if depth == 0 and not os.path.isdir(place):
            return  # Without a sandbox, the program may have removed it.
        os.chmod(place, 0o755)  # noqa: S103  what it locked has to be looked into
        with os.scandir(place) as found:
            for entry in list(found):
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    waiting.append((entry.path, depth + 1))
                elif not stat.S_ISREG(facts.st_mode) or not _is_text(entry.name):
                    os.unlink(entry.path)
                elif facts.st_mode & 0o7000 or not facts.st_mode & 0o400:
                    os.chmod(entry.path, 0o644)


def _is_text(name: str) -> bool:
    """Whether a file's name can be written down: what is not UTF-8 breaks every record that mentions it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _remove_tree(place: str) -> None:
    """Remove a folder, however deep: rm works without long paths and without recursion."""
    pid = os.posix_spawnp("rm", ["rm", "-rf", "--", place], os.environ)
    os.waitpid(pid, 0)


def _printed() -> int:
    """Bytes on standard output and error, which may be the same file."""
    files = {(facts.st_dev, facts.st_ino): facts.st_size for facts in map(os.fstat, (1, 2))}
    return sum(files.values())


def _read(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(file, 2**16), b""))
    finally:
        os.close(file)


def _size(count: int) -> str:
    unit, name = (2**30, "GiB") if count >= 2**30 else (2**20, "MiB")
    return f"{count / unit:.3g} {name}"


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def main() -> Any:
    order: Order = json.loads(sys.argv[1])
    report = Warden(order).run()
    if order["report"] >= 0:
        os.write(order["report"], json.dumps(report).encode())
    elif report["error"]:
        os.write(2, f"\nerror: {report['error']}; it was ended\n".encode())
    sys.exit(report["exit_code"])


if __name__ == "__main__":
    main()
