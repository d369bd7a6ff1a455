"""Runs code that a model or a stranger wrote, where it can do no harm: bubblewrap, or refused.

A program in the sandbox has no network, an empty environment, a read-only system of libraries and the Python that runs
it, a /tmp of its own, and one folder that it may write to. It sees no home, no token, no repository, no other process.
What it may use is limited, and it ends with all that it started. What remains shared with the machine is the kernel.

Where bubblewrap does not work, nothing runs, unless a person allows it by name (mode `none`): the limits, the empty
environment and the folder of its own are then all that holds, and whoever shows the result has to say so.

What the limits mean for a program of several processes: `seconds`, `cpu_seconds`, `memory`, `processes`, `disk` and
`output` are sums over all of them, looked at every 50 ms or more often, so a fast one gets a little further before it
is ended. `file_size` is the kernel's, for each file; `memory` is that too, for each process. Pages that two
processes share count for both; what lies in /tmp and /dev/shm comes on top of `memory`, at most a quarter of it each.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field

from agents import warden
from agents.seccomp import filter_program
from shared_memory.errors import Unavailable
from shared_memory.records import Record

MIB, GIB = 2**20, 2**30

Mode = Literal["auto", "none"]
"""`auto`: isolated, or refused. `none`: not isolated, because a person said so."""
Isolation = Literal["bubblewrap", "none"]
"""What a program was kept apart by."""
Limit = Literal["time", "cpu", "memory", "processes", "file_size", "disk", "output"]
"""What ended a program: the fields of Limits, in short."""

ALLOW = "or allow it to run without a sandbox by name: --sandbox none, in a goal [run] sandbox = 'none'"
HELPERS = 2
"""Processes of bubblewrap's own: one outside, and the first one of the new namespace."""
SYSTEM = (
    "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec", "/usr/share",
    "/usr/local/bin", "/usr/local/lib", "/usr/local/lib64", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime",
)  # fmt: skip
"""Programs and libraries; of /etc, what the linker and the clock read. Not /opt and /usr/src: people work there."""
ROOT = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Folders, or on most systems links into /usr."""
ENVIRONMENT_PARTS = ("bin", "lib", "lib64", "share", "pyvenv.cfg")
"""What is shown of a Python environment: not the files that people keep beside these."""
PROBE_SECONDS = 10
_SET_UP_FAILED = re.compile(r"bwrap: (?!execvp)")
"""Its own words; those on execvp say that the program is not there."""


class Limits(Record):
    """How far a program may go. Sizes are bytes."""

    seconds: float = Field(default=60.0, gt=0)
    """By the clock."""
    cpu_seconds: float | None = Field(default=None, gt=0)
    """Of processor time; None leaves it to the clock."""
    memory: int = Field(default=2 * GIB, ge=16 * MIB)
    processes: int = Field(default=32, ge=1)
    file_size: int = Field(default=256 * MIB, ge=0)
    """Of a single file."""
    disk: int = Field(default=512 * MIB, ge=0)
    """Of the whole folder."""
    output: int = Field(default=MIB, ge=0)
    """Of standard output and standard error together."""


class Result(Record):
    """How a program ended, and what it left."""

    exit_code: int
    """128 + n where signal n ended it; warden.EXIT_LIMIT where a limit did."""
    stdout: str
    stderr: str
    """Both cut at the limit on output."""
    seconds: float
    peak_memory: int
    """Bytes: the most that was seen of all its processes, or that one of them had by the kernel's account."""
    limit: Limit | None
    """None where it ended by itself."""
    error: str
    """What it did that a limit ended it for; empty where none did."""
    isolation: Isolation
    files: tuple[str, ...]
    """Plain files in the folder when all had ended, by relative path. Links, pipes and devices were removed."""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and self.limit is None


def run(
    argv: Sequence[str],
    files: Mapping[str, str | bytes],
    limits: Limits | None = None,
    *,
    mode: Mode = "auto",
    folder: Path | None = None,
    readable: Sequence[Path] = (),
) -> Result:
    """Run a program in a folder that holds `files` (name → content) and nothing else, and wait for its end.

    argv: the program and its arguments; `sys.executable` is there. folder: where to run it, made if need be, and kept
    with what the program left in it; a temporary one without it, and then only the Result remains. readable: further
    files that it may read.

    Raises Unavailable where nothing can be isolated here and `mode` does not allow to do without.
    """
    limits = limits or Limits()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="postgrad-sandbox-", ignore_cleanup_errors=True) as place:
            return run(argv, files, limits, mode=mode, folder=Path(place).resolve() / "work", readable=readable)
    kept_apart = isolation(mode)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as told:
        subprocess.run(
            command(argv, folder, limits, mode=mode, readable=readable, report=told.fileno()),
            env={},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=[told.fileno()],
        )
        stdout, stderr = _text(out, limits.output), _text(err, limits.output)
        report = _read_report(told, stderr)
    if kept_apart == "bubblewrap" and report["exit_code"] == 1 and not stdout and _SET_UP_FAILED.match(stderr):
        raise Unavailable(f"the sandbox could not be set up ({stderr.strip()}); run `postgrad doctor`, {ALLOW}")
    limit, error = report["limit"], report["error"]
    if limit is None and report["exit_code"] and stderr.rstrip().rpartition("\n")[2].startswith("MemoryError"):
        limit, error = "memory", f"it asked for more than {limits.memory // MIB} MiB of memory"
    return Result.model_validate(
        {
            **report,
            "limit": limit,
            "error": error,
            "stdout": stdout,
            "stderr": stderr,
            "isolation": kept_apart,
            "files": tuple(_files(folder)),
        }
    )


def command(
    argv: Sequence[str],
    folder: Path,
    limits: Limits,
    *,
    mode: Mode = "auto",
    cwd: Path | None = None,
    readable: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    report: int = -1,
) -> list[str]:
    """The command line that runs `argv` under these limits; `folder`, which must be there, is all it may write to.

    cwd: where it starts; the folder without it. readable: further files that it may read. environment: variables that
    it gets besides those everyone gets. report: open file for the warden's Report; without one, the reason for which a
    limit ended the program is the last line on standard error, as `error: …`.

    Raises Unavailable as `run` does.
    """
    cwd = cwd or folder
    kept_apart = isolation(mode)
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "PYTHONUNBUFFERED": "1",
        **({"TMPDIR": str(folder)} if kept_apart == "none" else {}),
        **(environment or {}),
    }
    program = [shutil.which(argv[0]) or argv[0], *argv[1:]]
    isolated = kept_apart == "bubblewrap"
    order = warden.Order(
        argv=[*_bubblewrap(folder, cwd, readable, limits), "--", *program] if isolated else program,
        environment=variables,
        cwd="/" if isolated else str(cwd),
        folder=str(folder),
        helpers=HELPERS if isolated else 0,
        filter=filter_program(as_root=os.geteuid() == 0).hex() if isolated else "",
        report=report,
        seconds=limits.seconds,
        cpu_seconds=limits.cpu_seconds,
        memory=limits.memory,
        processes=limits.processes,
        file_size=limits.file_size,
        disk=limits.disk,
        output=limits.output,
    )
    return [sys.executable, "-I", "-S", warden.__file__, json.dumps(order)]


def isolation(mode: Mode) -> Isolation:
    """What programs are kept apart by on this machine. Raises Unavailable where `auto` finds nothing that works."""
    if mode == "none":
        return "none"
    if fault := fault_of_this_machine():
        raise Unavailable(fault)
    return "bubblewrap"


def fault_of_this_machine() -> str:
    """Why nothing can be isolated here, with the next move; empty where it can. Tried once per process."""
    return _tried().fault


def shortcomings_of_this_machine() -> str:
    """What the sandbox has to do without here, though it works; empty where it lacks nothing."""
    tried = _tried()
    if tried.fault:
        return ""
    lacks = [what for option, what in _OPTIONAL.items() if option not in tried.options]
    lacks += [] if filter_program(as_root=False) else ["a filter for system calls"]
    return f"without {' and '.join(lacks)}" if lacks else ""


_OPTIONAL = {"--proc": "a /proc of its own", "--disable-userns": "bubblewrap's lock on further user namespaces"}
"""Option of bubblewrap that does not work everywhere → what is missing without it."""


class _Tried(Record):
    options: tuple[str, ...] = ()
    """Of bubblewrap, as they work here."""
    fault: str = ""


@functools.cache
def _tried() -> _Tried:
    """Start Python in a sandbox, with everything and then without what takes nothing from the isolation.

    Old versions of bubblewrap cannot forbid further user namespaces, which only the filter for system calls then does;
    in some containers no /proc can be mounted, and then there is none. See `shortcomings_of_this_machine`.
    """
    if sys.platform != "linux":
        return _Tried(fault=f"code is isolated on Linux only; run postgrad there, {ALLOW}")
    if shutil.which("bwrap") is None:
        return _Tried(fault=f"bubblewrap is not installed; install it (apt install bubblewrap), {ALLOW}")
    words = ""
    for options in (("--proc", "/proc", "--disable-userns"), ("--proc", "/proc"), ("--disable-userns",), ()):
        with tempfile.TemporaryDirectory(prefix="postgrad-sandbox-") as place:
            folder = Path(place).resolve()
            tried = [*_bubblewrap(folder, folder, (), Limits(), options, seccomp=False), "--", sys.executable, "-c", ""]
            try:
                answer = subprocess.run(
                    tried, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_SECONDS
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                words = words or str(error)
                continue
        if answer.returncode == 0:
            return _Tried(options=options)
        words = words or answer.stderr.strip().rpartition("\n")[2] or f"exit code {answer.returncode}"
    return _Tried(
        fault=f"bubblewrap does not work here ({words}); allow user namespaces on this machine or container, {ALLOW}"
    )


def _bubblewrap(
    folder: Path,
    cwd: Path,
    readable: Sequence[Path],
    limits: Limits,
    options: Sequence[str] | None = None,
    seccomp: bool = True,
) -> list[str]:
    """bwrap and its options. Later mounts cover earlier ones, so the order matters."""
    options = _tried().options if options is None else options
    small = str(limits.memory // 4)
    arguments = [
        shutil.which("bwrap") or "bwrap",
        "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox",
        "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        "--dev", "/dev", "--size", small, "--tmpfs", "/dev/shm",  # noqa: S108
        "--size", small, "--tmpfs", "/tmp",  # noqa: S108
        *options,
    ]  # fmt: skip
    # Root without a capability still owns the files of root, and with them the kernel's settings in /proc/sys.
    for place in ("/dev", *(("/proc",) if "--proc" in options else ())):
        arguments += ["--remount-ro", place]
    for place in (*ROOT, *SYSTEM):
        if place in ROOT and Path(place).is_symlink():
            arguments += ["--symlink", str(Path(place).readlink()), place]
        else:
            arguments += ["--ro-bind-try", place, place]
    for private in _private_places():
        arguments += ["--tmpfs", str(private), "--remount-ro", str(private)]
    for part in _environment_parts():
        arguments += ["--ro-bind", str(part), str(part)]
    for file in readable:
        arguments += ["--ro-bind", str(file), str(file)]
    arguments += ["--bind", str(folder), str(folder), "--chdir", str(cwd), "--remount-ro", "/"]
    if seccomp and filter_program(as_root=False):
        arguments += ["--seccomp", str(warden.FILTER_FD)]
    return arguments


def _private_places() -> Iterator[Path]:
    """Homes that lie within SYSTEM, as those of some services do: they are covered."""
    homes = (Path.home(), *(Path(os.environ[name]) for name in ("POSTGRAD_HOME", "HF_HOME") if os.environ.get(name)))
    for home in homes:
        if home.is_dir() and any(home.resolve().is_relative_to(place) for place in SYSTEM):
            yield home.resolve()


def _environment_parts() -> Iterator[Path]:
    """The parts of the Python that runs this, of the one its environment is made from, and where links lead to."""
    prefixes = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    prefixes += [prefix.resolve() for prefix in prefixes]
    prefixes.append(Path(os.path.realpath(sys.executable)).parent.parent)
    for prefix in dict.fromkeys(prefixes):
        if str(prefix) in ("/", "/usr", "/usr/local"):
            continue
        for part in ENVIRONMENT_PARTS:
            if (prefix / part).exists():
                yield prefix / part


def _read_report(told: IO[bytes], stderr: str) -> dict[str, Any]:
    told.seek(0)
    text = told.read()
    if not text:
        raise Unavailable(f"the sandbox's warden was ended from outside ({stderr.strip()[-200:]}); run it again")
    report: dict[str, Any] = json.loads(text)
    return report


def _text(stream: IO[bytes], most: int) -> str:
    stream.seek(0)
    return stream.read(most).decode(errors="replace")


def _files(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path.relative_to(folder).as_posix()
