"""Jobs whose script is not our own: the local runner, with the sandbox around it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agents import sandbox
from agents.jobs import launch
from agents.jobs.local import LocalRunner
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import JobState
from shared_memory.run_paths import RunPaths
from tests.jobs.conformance import Bench, RunnerConformance, eventually, wait, wait_for_text
from tests.jobs.test_local_runner import FAMILY, has_no_processes, processes_of

pytestmark = pytest.mark.skipif(bool(sandbox.fault_of_this_machine()), reason=sandbox.fault_of_this_machine())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    paths = RunPaths(tmp_path / "runs" / "run-1")
    bench = Bench(paths, partial(LocalRunner, tmp_path / "slots", paths.jobs, 0.5), sandbox="auto")
    yield bench
    for folder in bench.paths.jobs.glob("*"):
        bench.new_runner().cancel(folder.name)
        assert eventually(partial(has_no_processes, folder.name)), "a job left processes behind"


class TestSandboxedJobs(RunnerConformance):
    @pytest.fixture
    def bench(self, bench: Bench) -> Bench:
        return bench

    def test_a_job_sees_the_secrets_it_names_and_no_others(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTHER_TOKEN", "canary-other")
        runner = bench.new_runner()
        with pytest.raises(BadInput, match="gets no secrets, and this one names OTHER_TOKEN"):
            bench.submit("pass", secrets=["OTHER_TOKEN"])
        backend_id = bench.submit("import os; print(dict(os.environ))")
        wait(runner, backend_id)
        assert "canary" not in runner.logs(backend_id, 0)[0]


def test_a_job_writes_to_out_and_can_neither_change_nor_read_what_the_supervisor_keeps(bench: Bench) -> None:
    runner = bench.new_runner()
    key = bench.submit("""
import os
os.makedirs("out", exist_ok=True)
open("out/data.jsonl", "w").write("{}")
os.symlink("/etc/shadow", "out/link")
print(sorted(os.listdir()), os.path.exists("../../../slots"))
for name in ("status.json", "log.txt", "cancel", "config.json", "job.py"):
    try:
        open(name, "a")
        print("may write", name)
    except OSError:
        pass
""")
    assert wait(runner, key).state == JobState.SUCCEEDED
    lines = runner.logs(key, 0)[0].splitlines()
    assert lines[0] == "['config.json', 'job.py', 'out'] False"
    folder = bench.paths.job(key)
    written = {line.removeprefix("may write ") for line in lines[1:]}
    assert written.isdisjoint({"config.json", "job.py"})
    assert not (folder / "cancel").exists()
    assert [path.name for path in (folder / "out").iterdir()] == ["data.jsonl"]


def test_a_sandboxed_job_dies_with_its_supervisor(bench: Bench) -> None:
    runner = bench.new_runner()
    key = bench.submit(FAMILY.replace("LEAVES", "True"))
    wait_for_text(runner, key, "family complete")
    (supervisor,) = processes_of(key, job=False)
    assert len(processes_of(key, supervisor=False)) >= 3
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(partial(has_no_processes, key), seconds=5)
    assert wait(runner, key).error == "its supervisor was killed, or the machine went down"


def test_a_job_past_a_limit_of_the_sandbox_fails_and_says_which(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "SANDBOX_OUTPUT", 100_000)
    key = bench.submit("while True: print('y' * 1000)")
    status = wait(bench.new_runner(), key)
    assert (status.state, status.error) == (JobState.FAILED, "it printed more than 0.0954 MiB; it was ended")


def test_without_bubblewrap_a_job_is_refused_and_can_be_submitted_later(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.job("print('ran')")
    path = os.environ["PATH"]
    try:
        sandbox._tried.cache_clear()
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Unavailable, match="bubblewrap is not installed"):
            bench.new_runner().submit(*job)
        assert bench.new_runner().find(job[1]) is None
    finally:
        monkeypatch.setenv("PATH", path)
        sandbox._tried.cache_clear()
    assert wait(bench.new_runner(), bench.new_runner().submit(*job)).state == JobState.SUCCEEDED


def test_a_job_that_is_allowed_to_runs_without_a_sandbox_and_under_its_limits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.sandbox = "none"
    monkeypatch.setattr(launch, "SANDBOX_PROCESSES", 4)
    script = "import os, subprocess\nprint(os.path.exists('/proc/1'), os.environ.get('HF_HOME'), flush=True)\n"
    key = bench.submit(script + "for n in range(8): subprocess.Popen(['sleep', '60'])\nimport time; time.sleep(60)")
    status = wait(bench.new_runner(), key)
    assert bench.new_runner().logs(key, 0)[0].startswith("True None\n")
    assert status.error.startswith("it started more than 4 processes")
