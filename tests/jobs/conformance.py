"""What every job runner must do. A runner's tests subclass `RunnerConformance` and give it a fixture `bench`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import pytest

from agents.jobs.base import JobRunner, JobStatus, last_words, read_events
from shared_memory.records import Estimate, JobSpec, JobState, Purpose, submission_key
from shared_memory.run_paths import RunPaths

SLEEPER = "import time\nprint('up')\ntime.sleep(60)"
TICKER = (
    "import time\nfor n in range(40):\n    print('line', n, 'ä' * n)\n    time.sleep(0.02)\nprint('no newline', end='')"
)


@dataclass
class Bench:
    """A run's folder, and a way to make runner objects that work on it."""

    paths: RunPaths
    new_runner: Callable[[], JobRunner]
    attempts: count[int] = field(default_factory=lambda: count(1))
    sandbox: Literal["", "auto", "none"] = ""
    """Of its jobs."""
    runner: Literal["local", "hf", "slurm"] = "local"
    flavor: str = "cpu"
    usd_micro_per_minute: int = 0
    """What its jobs cost."""

    def job(
        self, script: str, config: dict[str, Any] | None = None, timeout: int = 60, secrets: Sequence[str] = ()
    ) -> tuple[JobSpec, str, Path]:
        """A job of its own whose script is this source: spec, key, filled folder."""
        spec = JobSpec(
            purpose=Purpose.TRAINING,
            experiment="e1",
            title="a test",
            script="job.py",
            files={"job.py": self.paths.store(script.encode())},
            config=config or {},
            timeout_seconds=timeout,
            estimate=Estimate(hours=0.01, usd_micro=0, memory_gib=0.1, basis="a test"),
            secrets=tuple(secrets),
            sandbox=self.sandbox,
            runner=self.runner,
            flavor=self.flavor,
        )
        key = submission_key(str(self.paths.root), spec, next(self.attempts))
        return spec, key, self.paths.fill_job_folder(key, spec.files, json.dumps(spec.config))

    def submit(self, script: str, timeout: int = 60, secrets: Sequence[str] = ()) -> str:
        return self.new_runner().submit(*self.job(script, timeout=timeout, secrets=secrets))


def wait(runner: JobRunner, backend_id: str, state: JobState | None = None, seconds: float = 30) -> JobStatus:
    """Poll until the job is in `state`, or in any terminal one; fails if it ends otherwise or takes longer."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        status = runner.status(backend_id)
        if status.state == state or (state is None and status.state.terminal):
            return status
        assert not status.state.terminal, f"{status} instead of {state}"
        time.sleep(0.02)
    raise AssertionError(f"still {runner.status(backend_id)} after {seconds} s")


def eventually(condition: Callable[[], object], seconds: float = 10) -> bool:
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.01)
    return True


def wait_for_text(runner: JobRunner, backend_id: str, text: str) -> None:
    give_up_at = time.monotonic() + 30
    while text not in runner.logs(backend_id, 0)[0]:
        assert time.monotonic() < give_up_at, f"never printed {text}"
        time.sleep(0.02)


class RunnerConformance:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        raise NotImplementedError("give the bench of the runner under test")

    def test_a_job_that_exits_with_0_succeeded_and_its_events_are_in_the_log(self, bench: Bench) -> None:
        script = """
            import json
            config = json.load(open("config.json"))
            print(json.dumps({"step": 1, "steps": 2, "loss": config["loss"]}))
            print(json.dumps({"result": {"rows": 3}}))
        """
        spec, key, folder = bench.job(dedent(script), config={"loss": 1.5})
        runner = bench.new_runner()
        backend_id = runner.submit(spec, key, folder)
        status = wait(runner, backend_id)
        assert (status.state, status.exit_code, status.error) == (JobState.SUCCEEDED, 0, "")
        assert 0 < status.seconds < 30
        assert 0 <= status.usd_micro <= (status.seconds + 1) * bench.usd_micro_per_minute / 60 + 1
        progress, result = read_events(runner.logs(backend_id, 0)[0])
        assert progress == [{"step": 1, "steps": 2, "loss": 1.5}]
        assert result == {"rows": 3}

    def test_a_job_that_states_its_error_failed_with_that_cause_and_code(self, bench: Bench) -> None:
        backend_id = bench.submit("import sys; sys.exit(print('error: no rows; add some', file=sys.stderr) or 2)")
        status = wait(bench.new_runner(), backend_id)
        assert (status.state, status.exit_code, status.error) == (JobState.FAILED, 2, "no rows; add some")

    def test_a_job_that_crashes_failed_with_its_exception(self, bench: Bench) -> None:
        backend_id = bench.submit("print('fine so far')\nprint({}['loss'])")
        runner = bench.new_runner()
        status = wait(runner, backend_id)
        assert (status.state, status.exit_code, status.error) == (JobState.FAILED, 1, "KeyError: 'loss'")
        text, _ = runner.logs(backend_id, 0)
        assert text.startswith("fine so far\nTraceback")
        assert last_words(text) == "KeyError: 'loss'"

    def test_a_job_past_its_time_out_is_ended_and_failed(self, bench: Bench) -> None:
        status = wait(bench.new_runner(), bench.submit(SLEEPER, timeout=1))
        assert status.state == JobState.FAILED
        assert status.error == "timed out after 1 s"
        assert 1 <= status.seconds < 20

    def test_a_cancelled_job_is_cancelled_and_stays_so(self, bench: Bench) -> None:
        runner = bench.new_runner()
        backend_id = bench.submit(SLEEPER)
        wait(runner, backend_id, JobState.RUNNING)
        wait_for_text(runner, backend_id, "up\n")
        runner.cancel(backend_id)
        ended = wait(runner, backend_id)
        assert ended.state == JobState.CANCELLED
        runner.cancel(backend_id)
        assert runner.status(backend_id) == ended

    def test_cancelling_a_finished_job_changes_nothing(self, bench: Bench) -> None:
        runner = bench.new_runner()
        backend_id = bench.submit("print('done')")
        ended = wait(runner, backend_id)
        runner.cancel(backend_id)
        assert runner.status(backend_id) == ended

    def test_the_same_key_submitted_twice_runs_once(self, bench: Bench) -> None:
        spec, key, folder = bench.job("import os; print('run', os.urandom(4).hex())")
        first = bench.new_runner().submit(spec, key, folder)
        second = bench.new_runner().submit(spec, key, folder)
        wait(bench.new_runner(), first)
        third = bench.new_runner().submit(spec, key, folder)
        assert first == second == third
        assert bench.new_runner().logs(first, 0)[0].count("run") == 1

    def test_a_job_is_found_by_its_key_from_its_submission_on(self, bench: Bench) -> None:
        spec, key, folder = bench.job("print('done')")
        assert bench.new_runner().find(key) is None
        backend_id = bench.new_runner().submit(spec, key, folder)
        assert bench.new_runner().find(key) == backend_id
        wait(bench.new_runner(), backend_id)
        assert bench.new_runner().find(key) == backend_id

    def test_an_id_that_nobody_submitted_is_unknown_and_has_no_log(self, bench: Bench) -> None:
        runner = bench.new_runner()
        assert runner.status("0" * 32).state == JobState.UNKNOWN
        assert runner.logs("0" * 32, 7) == ("", 7)
        runner.cancel("0" * 32)

    def test_a_log_read_in_pieces_repeats_and_loses_nothing(self, bench: Bench) -> None:
        backend_id = bench.submit(TICKER)
        runner, pieces, offset = bench.new_runner(), list[str](), 0
        while True:
            ended = runner.status(backend_id).state.terminal
            piece, offset = runner.logs(backend_id, offset)
            assert piece == "" or piece.endswith("\n") or runner.status(backend_id).state.terminal
            pieces.append(piece)
            if ended and not piece:
                break
            time.sleep(0.01)
        expected = "".join(f"line {n} {'ä' * n}\n" for n in range(40)) + "no newline"
        text = "".join(pieces)
        assert text in (expected, expected + "\n"), "a backend that keeps lines may end the last one"
        assert offset == len(text.encode())
        assert sum(bool(piece) for piece in pieces) > 2

    def test_a_job_sees_the_secrets_it_names_and_no_others(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NAMED_TOKEN", "canary-named")
        monkeypatch.setenv("OTHER_TOKEN", "canary-other")
        runner = bench.new_runner()
        backend_id = bench.submit("import os; print(dict(os.environ))", secrets=["NAMED_TOKEN"])
        wait(runner, backend_id)
        text, _ = runner.logs(backend_id, 0)
        assert "canary-named" in text
        assert "canary-other" not in text

    def test_what_a_job_left_in_out_is_in_its_folder_once_it_was_fetched(self, bench: Bench) -> None:
        script = """
            import os
            os.makedirs("out/model")
            open("out/model/weights.bin", "wb").write(bytes(range(256)) * 100)
            open("out/metrics.jsonl", "w").write("ä\\n")
        """
        spec, key, folder = bench.job(dedent(script))
        backend_id = bench.new_runner().submit(spec, key, folder)
        assert wait(bench.new_runner(), backend_id).state == JobState.SUCCEEDED
        for _ in range(2):
            bench.new_runner().fetch(backend_id, folder)
            assert (folder / "out" / "model" / "weights.bin").read_bytes() == bytes(range(256)) * 100
            assert (folder / "out" / "metrics.jsonl").read_text(encoding="utf-8") == "ä\n"

    def test_a_running_job_is_measured_and_cancelled_by_whoever_has_its_id(self, bench: Bench) -> None:
        backend_id = bench.submit(SLEEPER)
        wait(bench.new_runner(), backend_id, JobState.RUNNING)
        wait_for_text(bench.new_runner(), backend_id, "up\n")
        measured = bench.new_runner().metrics(backend_id)
        assert measured.keys() <= {"gpu_percent", "gpu_memory_gib", "cpu_percent", "memory_gib"}
        assert all(value >= 0 for value in measured.values())
        bench.new_runner().cancel(backend_id)
        assert wait(bench.new_runner(), backend_id).state == JobState.CANCELLED
        assert bench.new_runner().metrics(backend_id) == {}
