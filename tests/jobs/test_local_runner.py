"""The local runner, with real processes and real kills."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agents.jobs import launch, local, log_file, supervise
from agents.jobs.hardware import Gpu, LocalHardware
from agents.jobs.local import LocalRunner
from agents.jobs.measure import read_gpu_use
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import JobState
from shared_memory.run_paths import RunPaths
from tests.jobs.conformance import SLEEPER, Bench, RunnerConformance, eventually, wait, wait_for_text

COUNTED = "open('runs', 'a').write('run\\n')"
FAMILY = """
import os, subprocess, sys, time
print(os.getpid())
child = '''
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=LEAVES)
print("family complete", flush=True)
time.sleep(60)
'''
subprocess.Popen([sys.executable, "-c", child])
time.sleep(60)
"""


def make_bench(home: Path, run: str = "run-1", grace: float = 0.5) -> Bench:
    paths = RunPaths(home / "runs" / run)
    return Bench(paths, partial(LocalRunner, home / "slots", paths.jobs, grace))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path)
    yield bench
    for folder in bench.paths.jobs.glob("*"):
        bench.new_runner().cancel(folder.name)
        assert eventually(partial(has_no_processes, folder.name)), "a job left processes behind"


class TestLocalRunner(RunnerConformance):
    @pytest.fixture
    def bench(self, bench: Bench) -> Bench:
        return bench


def processes_of(key: str, job: bool = True, supervisor: bool = True) -> list[int]:
    """Process ids of the job with this key, and of its supervisor."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stamped = f"{supervise.STAMP}={key}".encode() in (folder / "environ").read_bytes().split(b"\0")
            supervises = f'"key": "{key}"'.encode() in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if (job and stamped) or (supervisor and supervises):
            found.append(int(folder.name))
    return found


def has_no_processes(key: str) -> bool:
    return not processes_of(key)


def in_another_process(action: Callable[[], object]) -> int:
    """Fork, do `action` there, and end; returns the process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        action()
        os._exit(0)
    finally:
        os._exit(1)


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines()) if (folder / "runs").exists() else 0


def test_standard_output_and_error_share_the_log_in_order(bench: Bench) -> None:
    script = "import sys\nfor n in range(50):\n    print(n, file=[sys.stdout, sys.stderr][n % 2])"
    runner = bench.new_runner()
    backend_id = bench.submit(script)
    wait(runner, backend_id)
    assert runner.logs(backend_id, 0)[0].split() == [str(n) for n in range(50)]


def test_a_log_larger_than_one_piece_comes_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LOG_PIECE", 64)
    runner = bench.new_runner()
    backend_id = bench.submit("for n in range(30): print(f'{n} ' * n)\nprint('x' * 1000, end='')")
    wait(runner, backend_id)
    text, offset, piece = "", 0, "start"
    while piece:
        piece, offset = runner.logs(backend_id, offset)
        text += piece
    assert text == "".join(f"{n} " * n + "\n" for n in range(30)) + "x" * 1000


@pytest.mark.parametrize("leaves", [False, True])
def test_cancelling_ends_grandchildren_that_ignore_the_signal_or_left_the_group(bench: Bench, leaves: bool) -> None:
    runner = bench.new_runner()
    key = bench.submit(FAMILY.replace("LEAVES", str(leaves)))
    wait_for_text(runner, key, "family complete")
    assert len(processes_of(key, supervisor=False)) == 3
    runner.cancel(key)
    assert wait(runner, key).state == JobState.CANCELLED
    assert eventually(partial(has_no_processes, key), seconds=2)


def test_what_a_finished_job_left_running_is_ended(bench: Bench) -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '60'])"
    backend_id = bench.submit(script)
    assert wait(bench.new_runner(), backend_id).state == JobState.SUCCEEDED
    assert eventually(partial(has_no_processes, backend_id), seconds=2)


def test_a_job_outlives_its_submitter_and_is_re_attached_by_id(bench: Bench, tmp_path: Path) -> None:
    spec, key, folder = bench.job("import time\nfor n in range(10):\n    print(n)\n    time.sleep(0.1)")
    (folder / "spec.json").write_text(spec.model_dump_json())
    program = f"""
import time
from pathlib import Path
from agents.jobs.local import LocalRunner
from shared_memory.records import JobSpec
folder = Path({str(folder)!r})
spec = JobSpec.model_validate_json((folder / "spec.json").read_text())
print(LocalRunner(Path({str(tmp_path / "slots")!r}), folder.parent).submit(spec, {key!r}, folder), flush=True)
time.sleep(60)
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root, start_new_session=True
    ) as submitter:
        assert submitter.stdout is not None
        backend_id = submitter.stdout.readline().strip()
        os.killpg(submitter.pid, signal.SIGKILL)
    runner = bench.new_runner()
    assert wait(runner, backend_id).state == JobState.SUCCEEDED
    assert runner.logs(backend_id, 0)[0].split() == [str(n) for n in range(10)]


def test_many_processes_that_submit_one_key_at_the_same_instant_run_it_once(bench: Bench) -> None:
    spec, key, folder = bench.job(COUNTED)
    go_read, go_write = os.pipe()

    def submit() -> None:
        os.read(go_read, 1)
        assert bench.new_runner().submit(spec, key, folder) == key

    submitters = [in_another_process(submit) for _ in range(8)]
    os.write(go_write, b"8 tokens")
    assert [os.waitpid(pid, 0)[1] for pid in submitters] == [0] * 8
    os.close(go_read)
    os.close(go_write)
    assert wait(bench.new_runner(), key).state == JobState.SUCCEEDED
    assert runs(folder) == 1


def test_a_submitter_killed_at_any_instant_and_asked_again_runs_the_job_once(bench: Bench) -> None:
    chance = random.Random(0)
    jobs = []
    for _ in range(30):
        spec, key, folder = bench.job(COUNTED)
        submitter = in_another_process(lambda: bench.new_runner().submit(spec, key, folder))  # noqa: B023
        time.sleep(chance.uniform(0, 0.06))
        os.kill(submitter, signal.SIGKILL)
        os.waitpid(submitter, 0)
        runner = bench.new_runner()
        assert (runner.find(key) or runner.submit(spec, key, folder)) == key
        jobs.append((key, folder))
    for key, folder in jobs:
        assert wait(bench.new_runner(), key).state == JobState.SUCCEEDED
        assert runs(folder) == 1


@pytest.mark.slow
def test_a_supervisor_killed_at_any_instant_never_leads_to_a_second_run(bench: Bench) -> None:
    chance = random.Random(1)
    for _ in range(30):
        spec, key, folder = bench.job(COUNTED)
        submitter = in_another_process(lambda: bench.new_runner().submit(spec, key, folder))  # noqa: B023
        time.sleep(chance.uniform(0.02, 0.12))
        for pid in processes_of(key, job=False):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(submitter, 0)
        runner = bench.new_runner()
        runner.submit(spec, key, folder)
        ended = wait(runner, key)
        assert runs(folder) == 1 if ended.state == JobState.SUCCEEDED else runs(folder) <= 1
        assert ended.state == JobState.SUCCEEDED or "its supervisor was killed" in ended.error
        assert runner.submit(spec, key, folder) == key
        assert runner.status(key) == ended


def test_a_job_dies_with_its_supervisor_and_the_status_says_so(bench: Bench) -> None:
    runner = bench.new_runner()
    spec, key, folder = bench.job(FAMILY.replace("LEAVES", "True"))
    runner.submit(spec, key, folder)
    wait_for_text(runner, key, "family complete")
    (supervisor,) = processes_of(key, job=False)
    leader = int(runner.logs(key, 0)[0].split()[0])
    assert leader in processes_of(key)
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: leader not in processes_of(key), seconds=2)
    ended = wait(runner, key)
    assert ended.state == JobState.FAILED
    assert ended.error == "its supervisor was killed, or the machine went down"
    assert eventually(partial(has_no_processes, key), seconds=2)
    assert bench.new_runner().status(key) == ended


def test_a_supervisor_told_to_end_ends_its_job_and_says_why(bench: Bench) -> None:
    runner = bench.new_runner()
    backend_id = bench.submit(SLEEPER)
    wait_for_text(runner, backend_id, "up")
    for pid in processes_of(backend_id, job=False):
        os.kill(pid, signal.SIGTERM)
    ended = wait(runner, backend_id)
    assert ended.state == JobState.FAILED
    assert ended.error.startswith("stopped")


def test_two_jobs_of_two_runs_share_the_slot_one_after_the_other(tmp_path: Path) -> None:
    script = "import time; began = time.time(); time.sleep(0.4); print(began, time.time())"
    benches = [make_bench(tmp_path, "run-1"), make_bench(tmp_path, "run-2")]
    ids = [bench.submit(script) for bench in benches]
    times = []
    for bench, backend_id in zip(benches, ids, strict=True):
        assert wait(bench.new_runner(), backend_id).state == JobState.SUCCEEDED
        times.append([float(word) for word in bench.new_runner().logs(backend_id, 0)[0].split()])
    (_, first_end), (second_start, _) = sorted(times)
    assert first_end <= second_start


def test_a_queued_job_is_cancelled_without_a_run(bench: Bench) -> None:
    runner = bench.new_runner()
    first = bench.submit(SLEEPER)
    wait(runner, first, JobState.RUNNING)
    spec, key, folder = bench.job(COUNTED)
    runner.submit(spec, key, folder)
    assert runner.status(key).state == JobState.QUEUED
    runner.cancel(key)
    assert wait(runner, key).state == JobState.CANCELLED
    assert runs(folder) == 0


def test_a_queued_job_whose_supervisor_was_killed_failed_before_its_start(bench: Bench) -> None:
    runner = bench.new_runner()
    first = bench.submit(SLEEPER)
    wait(runner, first, JobState.RUNNING)
    queued = bench.submit(SLEEPER)
    for pid in processes_of(queued):
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: runner.status(queued).state == JobState.FAILED)
    assert runner.status(queued).error.endswith("before the job had started")


def test_each_gpu_is_a_slot_of_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = tuple(Gpu(index=n, uuid=f"GPU-{n}", name="a GPU", memory_gib=24) for n in (2, 5))
    monkeypatch.setattr(local, "local_hardware", lambda: LocalHardware(cpu_cores=2, ram_gib=8, gpus=gpus))
    runner = bench.new_runner()
    ids = []
    for _ in range(3):
        spec, key, folder = bench.job("import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.5)")
        ids.append(runner.submit(spec.model_copy(update={"flavor": "gpu"}), key, folder))
    for backend_id in ids:
        assert wait(runner, backend_id).state == JobState.SUCCEEDED
    seen = [runner.logs(backend_id, 0)[0].strip() for backend_id in ids]
    assert set(seen) == {"2", "5"}


def test_a_job_gets_its_own_environment_and_not_ours(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "canary")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    runner = bench.new_runner()
    backend_id = bench.submit("import os\nfor name in sorted(os.environ): print(name, os.environ[name], sep='=')")
    wait(runner, backend_id)
    lines = runner.logs(backend_id, 0)[0].splitlines()
    assert {"HF_HUB_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", "TOKENIZERS_PARALLELISM=false"} <= set(lines)
    assert f"TRACKIO_DIR={bench.paths.trackio}" in lines
    assert "HF_TOKEN_PATH=/dev/null" in lines, "the token on disk is nobody's either"
    ours = {"PYTHONUNBUFFERED", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM", "TRACKIO_DIR", supervise.STAMP}
    ours.add("HF_TOKEN_PATH")
    names = {line.partition("=")[0] for line in lines} - ours - {"CUDA_VISIBLE_DEVICES", "LC_CTYPE"}
    assert names <= launch.PASSED_ON


def test_a_job_that_uses_more_memory_than_it_may_fails_with_that_cause(bench: Bench, tmp_path: Path) -> None:
    script = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "room = bytearray(100 * 2**20); import time; time.sleep(60)"])
time.sleep(SECONDS)
room = bytearray(100 * 2**20)
print("filled", flush=True)
time.sleep(60 if SECONDS else 0)
"""
    runner = LocalRunner(tmp_path / "slots", bench.paths.jobs, grace=0.5, memory_gib=0.15)
    ended = wait(runner, runner.submit(*bench.job(script.replace("SECONDS", "0.5"))))
    assert ended.state == JobState.FAILED
    assert re.fullmatch(
        r"out of memory: it used 0\.(1[5-9]|2\d) GiB of the machine's memory and may use 0\.15; "
        r"use a smaller micro-batch or more memory",
        ended.error,
    ), ended.error
    enough = LocalRunner(tmp_path / "slots", bench.paths.jobs, grace=0.5, memory_gib=1)
    assert wait(enough, enough.submit(*bench.job(script.replace("SECONDS", "0")))).state == JobState.SUCCEEDED


def test_a_running_job_is_measured_with_all_its_processes(bench: Bench) -> None:
    child = "room = bytearray(100 * 2**20)\nwhile True: pass"
    key = bench.submit(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])")
    runner = bench.new_runner()
    wait(runner, key, JobState.RUNNING)
    assert eventually(lambda: runner.metrics(key).get("memory_gib", 0) > 0.1)
    assert eventually(lambda: runner.metrics(key).get("cpu_percent", 0) > 20)
    assert "gpu_percent" not in runner.metrics(key), "it was given none"
    assert runner.metrics("0" * 32) == {}


def test_the_use_of_gpus_is_read() -> None:
    assert read_gpu_use("90, 1024\n70, 3072\n") == {"gpu_percent": 80.0, "gpu_memory_gib": 4.0}
    assert read_gpu_use("[N/A], 512\n") == {"gpu_memory_gib": 0.5}
    assert read_gpu_use("") == {}


def test_a_job_takes_as_many_gpus_as_it_asks_for_or_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = tuple(Gpu(index=n, uuid=f"GPU-{n}", name="a GPU", memory_gib=24) for n in range(3))
    monkeypatch.setattr(local, "local_hardware", lambda: LocalHardware(cpu_cores=2, ram_gib=8, gpus=gpus))
    monkeypatch.setattr(launch, "python_command", lambda spec: [sys.executable, spec.script])
    runner = bench.new_runner()
    spec, key, folder = bench.job("import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(60)")
    first = runner.submit(spec.model_copy(update={"flavor": "gpu", "devices": 2}), key, folder)
    wait_for_text(runner, first, "0,1")
    spec, key, folder = bench.job("print('done')")
    second = runner.submit(spec.model_copy(update={"flavor": "gpu", "devices": 2}), key, folder)
    spec, key, folder = bench.job("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
    third = runner.submit(spec.model_copy(update={"flavor": "gpu"}), key, folder)
    assert wait(runner, third).state == JobState.SUCCEEDED
    assert runner.logs(third, 0)[0] == "2\n"
    assert runner.status(second).state == JobState.QUEUED
    runner.cancel(first)
    assert wait(runner, second).state == JobState.SUCCEEDED
    with pytest.raises(BadInput, match="asks for 4 GPUs, and this machine has 3"):
        runner.submit(spec.model_copy(update={"flavor": "gpu", "devices": 4}), *bench.job("pass")[1:])


def test_what_cannot_be_submitted_is_refused_with_the_next_move(bench: Bench, tmp_path: Path) -> None:
    runner = bench.new_runner()
    spec, key, folder = bench.job(COUNTED, secrets=["NOT_SET_TOKEN"])
    with pytest.raises(BadInput, match="NOT_SET_TOKEN, which is not set; export it"):
        runner.submit(spec, key, folder)
    spec, key, folder = bench.job(COUNTED)
    with pytest.raises(BadInput, match="use `cpu` or `gpu`"):
        runner.submit(spec.model_copy(update={"flavor": "h200"}), key, folder)
    with pytest.raises(BadInput, match="is not the folder of job"):
        runner.submit(spec, key, tmp_path)
    assert runner.find(key) is None


def test_a_supervisor_that_cannot_take_the_job_says_why(bench: Bench) -> None:
    spec, key, folder = bench.job(COUNTED)
    (folder / supervise.LOCK).mkdir()
    with pytest.raises(Unavailable, match="IsADirectoryError"):
        bench.new_runner().submit(spec, key, folder)
    (folder / supervise.LOCK).rmdir()
    bench.new_runner().submit(spec, key, folder)
    assert wait(bench.new_runner(), key).state == JobState.SUCCEEDED
    assert runs(folder) == 1
