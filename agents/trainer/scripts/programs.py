"""Runs programs that a model wrote, and their tests, where they can do no harm: bubblewrap, or not at all.

The file is both ends: outside it builds the sandbox, and inside it is what Python runs there.
"""

import ctypes
import json
import platform
import resource
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

MIB = 2**20
SECONDS = 10
LIMITS = {"RLIMIT_AS": 2048 * MIB, "RLIMIT_CPU": SECONDS, "RLIMIT_FSIZE": 16 * MIB}
"""For a program and its tests together."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
CALLS = {"x86_64": (0xC000003E, 56, (57, 58)), "aarch64": (0xC00000B7, 220, ())}
"""Processor -> its number for the kernel, and the system calls clone, fork and vfork."""
CLONE3, THREAD, EPERM, ENOSYS = 435, 0x10000, 1, 38


class Unusable(Exception):
    """What cannot be relied on here: the message says why, and what to do."""


def passes(program: str, tests: str) -> bool:
    """Whether a program passes its tests: in a sandbox without network, home, and processes other than its own.

    What it ends with is a word that only the sandbox was told, so that a program which ends early has passed nothing.
    Program and tests share a process: tests that compare values hold against what is wrong, not against what was
    written to cheat these very tests.

    Raises Unusable where nothing can be isolated.
    """
    secret = secrets.token_hex(16)
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        sandbox = subprocess.Popen(
            [*isolated(), sys.executable, "-I", "-c", Path(__file__).read_text(encoding="utf-8")],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            sandbox.communicate(json.dumps([secret, program, tests]) + "\n", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            sandbox.kill()
            sandbox.wait()
        said.seek(max(0, said.seek(0, 2) - len(secret)))
        return sandbox.returncode == 0 and said.read() == secret


@cache
def isolated() -> tuple[str, ...]:
    """bubblewrap and its options, tried once. Raises Unusable where it is missing or not allowed to work."""
    words = "bwrap is not installed"
    for proc in (("--proc", "/proc"), ()) if shutil.which("bwrap") else ():  # some containers allow no /proc
        command = bubblewrap(proc)
        tried = subprocess.run([*command, sys.executable, "-I", "-c", ""], capture_output=True, text=True)
        if not tried.returncode:
            return command
        words = tried.stderr.strip().rpartition("\n")[2]
    advice = "install bubblewrap and allow user namespaces, or leave the reward `code` out"
    raise Unusable(f"programs cannot be isolated here ({words}); {advice}")


def bubblewrap(proc: tuple[str, ...]) -> tuple[str, ...]:
    """No network, no home, nothing to write to but a small /tmp; libraries and this Python can be read."""
    command = [
        "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
        "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8", "--dev", "/dev", *proc,
        "--size", str(64 * MIB), "--tmpfs", "/tmp",  # noqa: S108
    ]  # fmt: skip
    prefixes = {Path(prefix) for given in (sys.prefix, sys.base_prefix) for prefix in (given, Path(given).resolve())}
    parts = [str(prefix / part) for prefix in sorted(prefixes) for part in ("bin", "lib", "pyvenv.cfg")]
    for place in (*SYSTEM, *parts):
        if Path(place).is_symlink():
            command += ["--symlink", str(Path(place).readlink()), place]
        else:
            command += ["--ro-bind-try", place, place]
    return (*command, "--chdir", "/tmp", "--remount-ro", "/")  # noqa: S108


def examine() -> None:
    """Inside: runs program and tests, and says the secret if they got to their end."""
    secret, program, tests = json.loads(sys.stdin.readline())
    for name, limit in LIMITS.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    start_no_process()
    space = {"__name__": "candidate"}
    for text in (program, tests):
        exec(compile(text, "candidate", "exec"), space)  # noqa: S102 - what the sandbox is for
    sys.__stdout__.write("\n" + secret)  # type: ignore[union-attr]


def start_no_process() -> None:
    """Inside: from here on threads can be started, and no process [seccomp(2)]; RLIMIT_NPROC does not hold for root."""
    processor, clone, forks = CALLS[platform.machine()]
    load, equal, at_least, has, give = 0x20, 0x15, 0x35, 0x45, 0x06
    refused, not_there, ended, allowed = 0x50000 | EPERM, 0x50000 | ENOSYS, 0x80000000, 0x7FFF0000
    steps = [(load, 0, 0, 4), (equal, 1, 0, processor), (give, 0, 0, ended), (load, 0, 0, 0)]
    steps += [(at_least, 0, 1, 0x40000000), (give, 0, 0, not_there)]  # the calls of another word size
    steps += [(equal, 0, 1, CLONE3), (give, 0, 0, not_there)]  # cannot be looked into; libraries then use clone
    for fork in forks:
        steps += [(equal, 0, 1, fork), (give, 0, 0, refused)]
    steps += [(equal, 0, 3, clone), (load, 0, 0, 16), (has, 1, 0, THREAD), (give, 0, 0, refused)]
    steps += [(give, 0, 0, allowed)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None).prctl
    if prctl(38, 1, 0, 0, 0) or prctl(22, 2, program, 0, 0):
        raise OSError("the kernel takes no filter for system calls")


if __name__ == "__main__":
    examine()
