"""Hostile programs, each with one thing that it must not get away with.

Where `mode` is a parameter, the same program is also run without the sandbox, and must succeed there: so the test is
known to fail once the isolation is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents import sandbox, warden
from agents.sandbox import MIB, Limits, Mode, Result
from agents.seccomp import filter_program
from shared_memory.errors import Unavailable
from tests.jobs.test_local_runner import eventually

pytestmark = pytest.mark.skipif(bool(sandbox.fault_of_this_machine()), reason=sandbox.fault_of_this_machine())

IN_AND_OUT = pytest.mark.parametrize(("mode", "succeeds"), [("auto", False), ("none", True)])
ROOT = Path(__file__).parents[2]
SMALL = {"seconds": 20.0, "memory": 256 * MIB, "disk": 32 * MIB, "file_size": 16 * MIB, "processes": 16}


def run(source: str, *arguments: object, mode: Mode = "auto", folder: Path | None = None, **limits: Any) -> Result:
    """Run Python source with these arguments under small limits."""
    argv = [sys.executable, "-I", "-c", textwrap.dedent(source), *map(str, arguments)]
    return sandbox.run(argv, {}, Limits.model_validate(SMALL | limits), mode=mode, folder=folder)


def alive(marker: object) -> bool:
    """Whether any process of this machine has `marker` among its arguments, ours and the helpers' aside."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(marker).encode() in arguments and int(folder.name) != os.getpid():
            return True
    return False


@pytest.fixture
def marker(request: pytest.FixtureRequest) -> str:
    """An argument by which the processes of this test are found again."""
    return f"marker-{os.getpid()}-{request.node.name}"


# What a good program gets.


def test_a_program_gets_its_files_and_leaves_others_and_its_words_and_exit_code_come_back(tmp_path: Path) -> None:
    source = "import sys; open('out.txt', 'w').write(open('a/in.txt').read() * 2); print('one'); sys.exit('two')"
    argv = [sys.executable, "-c", source]
    result = sandbox.run(argv, {"a/in.txt": "äb"}, folder=tmp_path / "work")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "one\n", "two\n")
    assert (result.limit, result.isolation, result.files) == (None, "bubblewrap", ("out.txt", "a/in.txt"))
    assert (tmp_path / "work" / "out.txt").read_text() == "äbäb"
    assert 0 < result.seconds < 20
    assert MIB < result.peak_memory < 256 * MIB


def test_libraries_of_the_environment_and_pools_of_processes_work_inside() -> None:
    source = """
        import pydantic
        from multiprocessing import Pool
        if __name__ == "__main__":
            with Pool(2) as pool:
                print(pool.map(abs, [-1, -2]), open("/dev/urandom", "rb").read(1) and "dice")
    """
    result = run(source)
    assert (result.stdout, result.stderr) == ("[1, 2] dice\n", "")


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_a_program_that_a_signal_ends_or_that_is_not_there_has_a_shells_exit_code(mode: Mode) -> None:
    assert run("import os; os.kill(os.getpid(), 11)", mode=mode).exit_code == 128 + signal.SIGSEGV
    missing = sandbox.run(["no-such-program"], {}, mode=mode)
    assert not missing.ok
    assert "no-such-program" in missing.stderr


# What nobody else may read.


@IN_AND_OUT
def test_homes_and_tokens_and_the_repository_cannot_be_read(
    mode: Mode, succeeds: bool, home: Path, tmp_path: Path
) -> None:
    person = tmp_path / "person"
    secrets = [person / ".cache/huggingface/token", person / ".ssh/id_ed25519", home / "postgrad.db"]
    for path in secrets:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("canary")
    source = """
        import sys
        for path in sys.argv[1:]:
            try:
                open(path).read()
                print(path)
            except OSError:
                pass
    """
    places = [*secrets, ROOT / "pyproject.toml", ROOT / "agents" / "sandbox.py", "/etc/passwd"]
    assert run(source, *places, mode=mode).stdout.split() == [str(path) for path in places if succeeds]


def test_the_real_home_shows_nothing_but_the_python_that_is_run() -> None:
    source = """
        import os, sys
        for place, folders, files in os.walk(sys.argv[1]):
            inside = [prefix for prefix in (sys.prefix, sys.base_prefix) if place.startswith(prefix + "/")]
            folders[:] = [] if inside else folders
            print(*(name for name in files if not inside and name != "pyvenv.cfg"), sep="\\n", end="")
    """
    assert run(source, Path.home()).stdout == ""


@IN_AND_OUT
def test_environments_and_other_processes_cannot_be_read(mode: Mode, succeeds: bool) -> None:
    victim_environment = {"CANARY_TOKEN": "canary-value"}
    source = """
        import glob, os
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                if b"canary-value" in open(path, "rb").read():
                    print("read")
            except OSError:
                pass
    """
    with subprocess.Popen(["sleep", "60"], env=victim_environment) as victim:
        try:
            assert run(source, mode=mode).stdout.split() == ["read"] * succeeds
        finally:
            victim.kill()


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_the_environment_is_empty_but_for_what_everyone_gets(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary")
    source = "import os; print(*sorted(os.environ))"
    common = {"HOME", "LANG", "PATH", "PYTHONUNBUFFERED"}
    assert set(run(source, mode=mode).stdout.split()) - {"LC_CTYPE", "PWD", "TMPDIR"} == common


# The network.


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, object]]:
    """Sockets that wait for somebody: TCP and UDP on the loopback, one in the file system, one with a name only."""
    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    unix, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    tcp.bind(("127.0.0.1", 0))
    udp.bind(("127.0.0.1", 0))
    name = f"@postgrad-test-{os.getpid()}"
    unix.bind(str(tmp_path / "s"))
    abstract.bind(name.replace("@", "\0"))
    for server in (tcp, unix, abstract):
        server.listen()
    yield {
        "tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], "unix": tmp_path / "s", "abstract": name,
        "socket": udp,
    }  # fmt: skip
    for server in (tcp, udp, unix, abstract):
        server.close()


@IN_AND_OUT
@pytest.mark.parametrize("kind", ["tcp", "unix", "abstract"])
def test_no_server_can_be_reached(mode: Mode, succeeds: bool, kind: str, servers: dict[str, object]) -> None:
    source = """
        import socket, sys
        kind, address = sys.argv[1:]
        family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
        target = ("127.0.0.1", int(address)) if kind == "tcp" else address.replace("@", "\\0")
        try:
            socket.socket(family).connect(target)
            print("connected")
        except OSError as error:
            print(type(error).__name__)
    """
    assert (run(source, kind, servers[kind], mode=mode).stdout == "connected\n") is succeeds


@IN_AND_OUT
def test_no_datagram_leaves_and_no_name_is_resolved(
    mode: Mode, succeeds: bool, servers: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import socket, sys
        try:
            socket.socket(type=socket.SOCK_DGRAM).sendto(b"secret", ("127.0.0.1", int(sys.argv[1])))
        except OSError:
            pass
        try:
            socket.socket(type=socket.SOCK_DGRAM).connect(("192.0.2.1", 53))
            print("there is a way out")
        except OSError as error:
            print(error.strerror)
    """
    result = run(source, servers["udp"], mode=mode)
    udp = servers["socket"]
    assert isinstance(udp, socket.socket)
    udp.setblocking(False)
    if succeeds:
        assert udp.recv(100) == b"secret"
    else:
        assert result.stdout == "Network is unreachable\n"
        with pytest.raises(BlockingIOError):
            udp.recv(100)


# What it may not change.


@IN_AND_OUT
def test_nothing_outside_of_its_folder_can_be_written(mode: Mode, succeeds: bool, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    run("import sys; open(sys.argv[1], 'w').write('x')", outside, mode=mode)
    assert outside.exists() is succeeds


def test_the_system_the_environment_and_the_kernels_settings_are_read_only() -> None:
    source = """
        import os, sys
        for path in sys.argv[1:]:
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
                print("wrote", path)
            except OSError:
                pass
    """
    places = ["/x", "/usr/lib/x", "/usr/bin/env", "/etc/x", "/dev/x", f"{sys.prefix}/lib/x", sys.executable]
    kernel = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger"]
    assert run(source, *places, *kernel, "/proc/self/oom_score_adj").stdout == ""
    run(source, ROOT / "x")
    assert not (ROOT / "x").exists(), "a repository in /tmp is covered by the sandbox's own /tmp"


@IN_AND_OUT
def test_what_a_link_points_at_outside_does_not_come_back(mode: Mode, succeeds: bool, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    source = """
        import os, socket, sys
        os.symlink(sys.argv[1], "data.jsonl")
        os.symlink("/", "root")
        os.symlink("real.txt", "inner")
        os.mkfifo("pipe")
        socket.socket(socket.AF_UNIX).bind("socket")
        open(b"not \\xff text", "w")
        open("real.txt", "w").write("rows")
    """
    folder = tmp_path / "work"
    result = run(source, secret, folder=folder, mode=mode)
    assert result.files == ("real.txt",)
    assert [path.name for path in folder.iterdir()] == ["real.txt"]
    assert secret.read_text() == "canary"


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_no_setuid_bit_comes_back_and_what_it_locked_can_be_read(mode: Mode, tmp_path: Path) -> None:
    source = """
        import os
        os.close(os.open("root.sh", os.O_CREAT, 0o4755))
        os.mkdir("locked")
        open("locked/file", "w")
        os.chmod("locked/file", 0)
        os.chmod("locked", 0)
    """
    result = run(source, folder=tmp_path / "work", mode=mode)
    assert result.files == ("root.sh", "locked/file")
    assert not (tmp_path / "work" / "root.sh").stat().st_mode & 0o7000
    (tmp_path / "work" / "locked" / "file").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root owns the machine's device nodes")
def test_run_by_root_it_cannot_change_the_mode_of_a_device() -> None:
    device = Path("/dev/full")
    before = device.stat().st_mode
    try:
        run("import os; os.chmod('/dev/full', 0o640)")
        assert device.stat().st_mode == before
    finally:
        device.chmod(before & 0o7777)


# Privileges and other processes.


def test_it_has_no_capabilities_gains_none_and_makes_no_further_namespaces() -> None:
    source = """
        import ctypes, os
        print(*(line for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd", "NoNewPrivs"))))
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.unshare(0x10000000), os.path.exists("/sys/kernel"), os.listdir("/dev/pts"))
    """
    words = run(source).stdout.split()
    assert words == [
        "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1", "-1", "False", "['ptmx']",
    ]  # fmt: skip


@IN_AND_OUT
def test_other_processes_cannot_be_signalled(mode: Mode, succeeds: bool) -> None:
    source = "import os, sys; os.kill(int(sys.argv[1]), 9)"
    with subprocess.Popen(["sleep", "60"]) as victim:
        try:
            run(source, victim.pid, mode=mode)
            assert eventually(lambda: victim.poll() is not None, seconds=0.5) is succeeds
        finally:
            victim.kill()


def test_a_signal_to_everyone_and_to_its_parents_reaches_nobody_outside() -> None:
    received: list[int] = []
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in (15, 1, 10)}
    source = """
        import os
        for number in (15, 1, 10):
            for target in (-1, os.getppid(), 0):
                try:
                    os.kill(target, number) if target or number != 15 else None
                except OSError:
                    pass
    """
    try:
        with subprocess.Popen(["sleep", "60"]) as bystander:
            run(source)
            assert bystander.poll() is None
            bystander.kill()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert received == []


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_a_grandchild_that_left_the_session_is_dead_when_the_result_is_there(
    mode: Mode, marker: str, tmp_path: Path
) -> None:
    source = """
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True:
                    open("beat", "a").write("x")
                    time.sleep(0.005)
            os._exit(0)
        while not os.path.exists("beat"):
            time.sleep(0.01)
    """
    result = run(source, marker, mode=mode, folder=tmp_path / "work")
    assert result.ok
    assert not alive(marker)


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_a_caller_that_is_killed_takes_its_program_along(mode: Mode, marker: str) -> None:
    sleeper = "import os, time; os.fork(); time.sleep(60)"
    program = f"[sys.executable, '-c', {sleeper!r}, {marker!r}]"
    caller = f"import sys; from agents import sandbox; sandbox.run({program}, {{}}, mode={mode!r})"
    with subprocess.Popen([sys.executable, "-c", caller], cwd=ROOT) as process:
        assert eventually(lambda: alive(marker))
        process.kill()
    assert eventually(lambda: not alive(marker), seconds=5)


# Limits.


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_a_program_that_never_ends_is_ended(mode: Mode, marker: str) -> None:
    result = run("import time; time.sleep(600)", marker, seconds=0.3, mode=mode)
    assert (result.limit, result.exit_code, result.error) == ("time", warden.EXIT_LIMIT, "it ran longer than 0.3 s")
    assert not alive(marker)


def test_one_that_ignores_every_signal_and_one_that_burns_processor_time_are_ended() -> None:
    deaf = "import signal, time\nfor n in {*range(1, 32)} - {9, 19}: signal.signal(n, signal.SIG_IGN)\ntime.sleep(60)"
    assert run(deaf, seconds=0.3).limit == "time"
    burner = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    assert run(burner, cpu_seconds=0.5).limit == "cpu"


@pytest.mark.slow
def test_a_fork_bomb_is_ended_with_all_its_processes(marker: str) -> None:
    result = run("import os\nwhile True: os.fork()", marker, processes=16)
    assert result.limit == "processes"
    assert not alive(marker)


def test_memory_is_counted_over_all_processes_and_asked_for_at_once_is_not_given() -> None:
    at_once = run("x = bytearray(2**40)", memory=128 * MIB)
    assert (at_once.limit, at_once.error) == ("memory", "it asked for more than 128 MiB of memory")
    slowly = "import time\nkept = []\nwhile True: kept.append(b'x' * 2**20); time.sleep(0.0005)"
    assert run(slowly, memory=128 * MIB).limit == "memory"
    family = "import os, time\nos.fork(); os.fork()\nkept = b'x' * (60 * 2**20)\ntime.sleep(60)"
    assert run(family, memory=128 * MIB).limit == "memory"
    shared = "import mmap, time\nm = mmap.mmap(-1, 2**28)\nwhile True: m.write(b'x' * 2**20); time.sleep(0.0005)"
    assert run(shared, memory=128 * MIB).limit == "memory"


@pytest.mark.skipif(not filter_program(as_root=False), reason="this machine's system calls are not known")
def test_memory_that_belongs_to_no_process_cannot_be_had() -> None:
    source = """
        import ctypes, os
        try:
            os.memfd_create("hidden")
        except PermissionError:
            print("no memfd")
        print(ctypes.CDLL(None).shmget(0, 2**20, 0o1600))
        for folder in ("/tmp", "/dev/shm"):
            for n in range(8):
                try:
                    open(f"{folder}/{n}", "wb").write(b"x" * 2**24)
                except OSError as error:
                    print(folder, error.strerror)
                    break
    """
    words = run(source, memory=256 * MIB).stdout.splitlines()
    assert words == ["no memfd", "-1", "/tmp No space left on device", "/dev/shm No space left on device"]


@pytest.mark.parametrize(
    "source",
    [
        "n = 0\nwhile True: open(str(n), 'wb').write(b'x' * 2**20); n += 1",
        "f = open('x', 'wb'); os.unlink('x')\nwhile True: f.seek(0); f.write(b'x' * 2**23); f.flush(); os.fsync(f)",
        "n = 0\nwhile True: open(str(n), 'wb'); n += 1",
        "while True: os.mkdir('d'); os.chdir('d')",
    ],
    ids=["many files", "an unlinked file", "empty files", "nested folders"],
)
def test_a_disk_filler_is_ended(source: str, tmp_path: Path) -> None:
    result = run("import os\n" + source, folder=tmp_path / "work", disk=8 * MIB)
    assert result.limit == "disk", result
    assert not warden.measure(str(tmp_path / "work")).too_deep


def test_a_single_file_stops_growing_at_its_limit(tmp_path: Path) -> None:
    result = run(
        "f = open('big', 'wb')\nwhile True: f.write(b'x' * 2**20)", file_size=4 * MIB, folder=tmp_path / "work"
    )
    assert (result.limit, result.error) == ("file_size", "it wrote a file of more than 4 MiB")
    assert (tmp_path / "work" / "big").stat().st_size == 4 * MIB


def test_endless_output_is_cut_and_the_program_ended() -> None:
    result = run("while True: print('y' * 1000)", output=100_000, file_size=2**40)
    assert (result.limit, len(result.stdout)) == ("output", 100_000)
    quick = run("print('y' * 200_000)", output=100_000)
    assert (quick.limit, quick.ok) == ("output", False)


# Where there is no sandbox.


@pytest.fixture
def without_cache() -> Iterator[Callable[[], None]]:
    sandbox._tried.cache_clear()
    yield sandbox._tried.cache_clear
    sandbox._tried.cache_clear()


def test_without_bubblewrap_nothing_runs_unless_it_is_allowed_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without_cache: Callable[[], None]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"not installed; install it \(apt .*\), or allow .*--sandbox none"):
        run("print('ran')", folder=tmp_path / "work")
    assert not (tmp_path / "work").exists()
    allowed = run("print('ran')", mode="none")
    assert (allowed.stdout, allowed.isolation) == ("ran\n", "none")


def test_a_bubblewrap_that_does_not_work_here_is_refused_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without_cache: Callable[[], None]
) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(Unavailable, match=r"does not work here \(bwrap: No permissions .*; allow user namespaces"):
        run("print('ran')")


def test_several_threads_run_sandboxes_side_by_side() -> None:
    results: list[str] = []
    threads = [threading.Thread(target=lambda n=n: results.append(run(f"print({n})").stdout)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["0\n", "1\n", "2\n", "3\n"]


def test_time_does_not_run_on_after_the_end() -> None:
    began = time.monotonic()
    result = run("pass", seconds=20)
    assert result.seconds <= time.monotonic() - began


@pytest.mark.skipif(not filter_program(as_root=False), reason="this machine's system calls are not known")
def test_where_bubblewrap_cannot_forbid_user_namespaces_the_filter_does_and_what_is_lacking_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "--disable-userns" not in sandbox._Tried().options
    monkeypatch.setattr(sandbox, "_tried", sandbox._Tried)  # as on a machine where no option works
    assert sandbox.shortcomings_of_this_machine() == (
        "without a /proc of its own and bubblewrap's lock on further user namespaces"
    )
    source = """
        import ctypes, os, subprocess, sys, threading
        c = ctypes.CDLL(None, use_errno=True)
        clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
        pid = c.syscall(clone, 0x10000000 | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        print(pid, os.strerror(ctypes.get_errno()))
        print(c.syscall(430, b"tmpfs", 0), os.strerror(ctypes.get_errno()))
        threading.Thread(target=print, args=("a thread",)).start()
        subprocess.run([sys.executable, "-c", "print('a process')"], check=True)
    """
    refused = ["-1 Operation not permitted"] * 2
    assert sorted(run(source).stdout.splitlines()) == [*refused, "a process", "a thread"]
