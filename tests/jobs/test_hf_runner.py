"""HF Jobs through the real client: the conformance suite, and every fault of the service."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents.jobs.base import JobRunner
from agents.jobs.hf import order as hf_order
from agents.jobs.hf import runner as hf
from agents.jobs.hf.client import Passing
from agents.jobs.hf.runner import HfRunner
from shared_memory.errors import BadInput, PostgradError, Unavailable, Uncertain
from shared_memory.records import JobState
from shared_memory.run_paths import RunPaths
from tests.jobs.conformance import SLEEPER, TICKER, Bench, RunnerConformance, eventually, wait
from tests.servers.hub import TOKEN, DiesAfter, Fails, HubServer, hub, point_client_at
from tests.servers.jobs import JobsServer, hf_jobs


@pytest.fixture
def hub_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


@pytest.fixture
def server(hub_server: HubServer, tmp_path: Path) -> Iterator[JobsServer]:
    with hf_jobs(hub_server, tmp_path / "containers") as served:
        yield served


@pytest.fixture
def bench(server: JobsServer, tmp_path: Path) -> Bench:
    paths = RunPaths(tmp_path / "runs" / "run-1")
    new_runner = partial(HfRunner, paths.jobs, "run-1", every=0.0)
    return Bench(paths, new_runner, flavor="cpu-basic", runner="hf", usd_micro_per_minute=167)


class TestHfRunner(RunnerConformance):
    @pytest.fixture
    def bench(self, bench: Bench) -> Bench:
        return bench

    def test_the_token_that_keeps_the_output_is_not_in_the_environment_of_the_job(self, bench: Bench) -> None:
        backend_id = bench.submit("import os; print(dict(os.environ))")
        wait(bench.new_runner(), backend_id)
        assert TOKEN not in bench.new_runner().logs(backend_id, 0)[0]


def submit(bench: Bench, script: str = "print('done')", **changes: Any) -> str:
    """Submit a job whose spec is changed so."""
    spec, key, folder = bench.job(script)
    return bench.new_runner().submit(spec.model_copy(update=changes), key, folder)


def whole_log(runner: JobRunner, backend_id: str) -> str:
    text, offset, piece = "", 0, "start"
    while piece:
        piece, offset = runner.logs(backend_id, offset)
        text += piece
    return text


def test_nothing_leaves_this_machine_before_the_submission(bench: Bench, server: JobsServer) -> None:
    spec, key, folder = bench.job("print('done')", config={"loss": 1})
    assert bench.new_runner().find(key) is None
    assert not server.hub.repos
    bench.new_runner().submit(spec, key, folder)
    repo = server.hub.dataset("anna/postgrad-run-1")
    assert repo.private
    (volume,) = server.only.spec["volumes"]
    staged = repo.commits[volume["revision"]]
    assert set(staged.files) - {".gitattributes"} == {f"{key}/{name}" for name in ("job.py", "config.json", "keep.py")}
    assert (volume["path"], volume["mountPath"], volume["source"]) == (key, "/job", repo.id)


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
def test_a_folder_of_this_machine_that_the_config_names_goes_with_the_job(
    bench: Bench, server: JobsServer, tmp_path: Path
) -> None:
    model = tmp_path / "base"
    model.mkdir()
    (model / "weights.safetensors").write_bytes(b"w" * 1000)
    (model / ".env").write_text("not of the model")
    script = """
import json, os
config = json.load(open("config.json"))
print(sorted(os.listdir(config["model"])), config["teacher"], config["data"])
"""
    config = {"model": str(model), "teacher": "anna/teacher", "data": "data.jsonl"}
    spec, key, folder = bench.job(script, config=config)
    backend_id = bench.new_runner().submit(spec, key, folder)
    files = server.hub.dataset("anna/postgrad-run-1").head.files
    assert json.loads(files[f"{key}/config.json"].content) == config | {"model": "/job/model"}
    assert json.loads((folder / "config.json").read_text()) == config
    assert wait(bench.new_runner(), backend_id).state == JobState.SUCCEEDED
    assert whole_log(bench.new_runner(), backend_id) == "['weights.safetensors'] anna/teacher data.jsonl\n"


def test_a_public_repository_of_that_name_gets_no_files(bench: Bench, server: JobsServer) -> None:
    repo = server.hub.add("anna/postgrad-run-1", {"a.txt": "a"})
    with pytest.raises(BadInput, match="is public, and a job's files are not for everybody; make it private"):
        submit(bench)
    assert len(repo.commits) == 1


def test_a_secret_is_nowhere_but_among_the_secrets(
    bench: Bench, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMED_TOKEN", "canary-named")
    bench.submit("print('done')", secrets=["NAMED_TOKEN"])
    secrets = server.only.spec.pop("secrets")
    assert secrets == {"NAMED_TOKEN": "canary-named", "POSTGRAD_KEEP_TOKEN": TOKEN}
    elsewhere = json.dumps(server.only.spec) + repr(server.hub.repos) + repr([*bench.paths.root.rglob("*")])
    elsewhere += "".join(path.read_text() for path in bench.paths.jobs.rglob("*") if path.is_file())
    for secret in secrets.values():
        assert secret not in elsewhere


def test_the_command_is_a_list_of_arguments_and_trains_on_all_gpus_of_a_flavor(
    bench: Bench, server: JobsServer
) -> None:
    server.scheduling_seconds = 60
    spec, key, folder = bench.job("print('done')")
    bench.new_runner().submit(spec.model_copy(update={"devices": 4, "image": "acme/cuda:12"}), key, folder)
    command = server.only.spec["command"]
    assert command[:5] == ["uv", "run", "--quiet", "/job/keep.py", "--repo"]
    assert command[command.index("--") + 1 :] == [
        "uv", "run", "--quiet", "--with-requirements", "/job/job.py", "torchrun", "--standalone", "--nproc-per-node=4",
        "/job/job.py", "--config", "/job/config.json",
    ]  # fmt: skip
    assert server.only.spec["dockerImage"] == "acme/cuda:12"
    assert server.only.spec["timeoutSeconds"] == 60
    labels = server.only.spec["labels"]
    assert (labels["postgrad"], labels["postgrad-run"]) == (key, "run-1")


@pytest.mark.parametrize("trouble", [Fails(500, afterwards=True), DiesAfter(0), DiesAfter(10, reset=True)])
def test_a_submission_whose_answer_got_lost_is_uncertain_and_found_by_its_label(
    bench: Bench, server: JobsServer, trouble: Fails | DiesAfter
) -> None:
    spec, key, folder = bench.job("print('done')")
    server.hub.trouble("POST /api/jobs/anna$", trouble)
    server.listing_lag = 0.4
    with pytest.raises(Uncertain, match="may have the job"):
        bench.new_runner().submit(spec, key, folder)
    assert bench.new_runner().find(key) is None
    with pytest.raises(Uncertain, match="not listed yet"):
        bench.new_runner().submit(spec, key, folder)
    assert eventually(lambda: bench.new_runner().find(key))
    assert bench.new_runner().submit(spec, key, folder) == f"anna/{server.only.id}"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, BadInput, "does not accept the token, it may have expired; log in with `hf auth login`"),
        (402, Unavailable, "there is no credit left; add some in the Hub's billing settings, then resume"),
        (403, BadInput, "the token may not do this"),
        (404, BadInput, "check namespace and flavor"),
        (429, Passing, "too many requests; resume in 7 s"),
    ],
)
def test_a_submission_that_is_refused_says_why_and_what_to_do(
    bench: Bench, server: JobsServer, status: int, error: type[PostgradError], words: str
) -> None:
    spec, key, folder = bench.job("print('done')")
    server.hub.trouble("POST /api/jobs/anna$", Fails(status, {"Retry-After": "7"}))
    with pytest.raises(error, match=words) as refused:
        bench.new_runner().submit(spec, key, folder)
    assert "\n" not in str(refused.value)
    assert not isinstance(refused.value, Uncertain)
    assert not server.jobs
    assert bench.new_runner().submit(spec, key, folder) == f"anna/{server.only.id}", "nothing was burnt"


def test_what_cannot_run_there_is_refused_before_anything_is_staged(bench: Bench, server: JobsServer) -> None:
    for changes, words in (
        ({"nodes": 2}, "has one node"),
        ({"sandbox": "auto"}, "kept apart"),
        ({"secrets": ("NOT_SET",)}, "NOT_SET, which is not set; export it"),
    ):
        with pytest.raises(BadInput, match=words):
            submit(bench, **changes)
    assert not server.hub.repos


def test_a_status_that_cannot_be_read_for_a_while_ends_nothing(
    bench: Bench, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend_id = bench.submit(SLEEPER)
    wait(bench.new_runner(), backend_id, JobState.RUNNING)
    looks = f"GET /api/jobs/{backend_id}$"
    for trouble in (Fails(503), Fails(500), Fails(429), DiesAfter(5)):
        server.hub.trouble(looks, trouble)
        assert bench.new_runner().status(backend_id).state == JobState.RUNNING
    server.hub.trouble(looks, Fails(503), times=2)
    monkeypatch.setattr(hf, "PATIENCE", -1.0)
    with pytest.raises(Unavailable, match=r"resume later; job anna/0+ itself may go on meanwhile"):
        bench.new_runner().status(backend_id)
    server.hub.calm()
    assert bench.new_runner().status(backend_id).state == JobState.RUNNING


def test_a_job_whose_output_somebody_deleted_has_failed_in_the_end(
    bench: Bench, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend_id = bench.submit("print('done')")
    assert eventually(lambda: server.only.finished)
    server.hub.repos.clear()
    assert not bench.new_runner().status(backend_id).state.terminal, "it may come late"
    monkeypatch.setattr(hf, "PATIENCE", -1.0)
    status = bench.new_runner().status(backend_id)
    assert status.state == JobState.FAILED
    assert "has kept nothing in anna/postgrad-run-1" in status.error
    assert bench.new_runner().status(backend_id) == status


def test_a_token_that_expired_says_so_and_the_job_is_there_after_a_new_login(bench: Bench, server: JobsServer) -> None:
    backend_id = bench.submit("print('done')")
    user = server.hub.users.pop(TOKEN)
    with pytest.raises(BadInput, match=r"reading the status of job .* it may have expired; log in"):
        bench.new_runner().status(backend_id)
    server.hub.users[TOKEN] = user
    assert wait(bench.new_runner(), backend_id).state == JobState.SUCCEEDED


def test_a_log_whose_stream_breaks_again_and_again_repeats_and_loses_nothing(bench: Bench, server: JobsServer) -> None:
    for sent in (150, 700, 10, 1500):
        server.hub.trouble("GET .*/logs$", DiesAfter(sent, reset=sent == 700))
    backend_id, text, offset = bench.submit(TICKER), "", 0
    while not bench.new_runner().status(backend_id).state.terminal:
        piece, offset = bench.new_runner().logs(backend_id, offset)
        text += piece
    text += bench.new_runner().logs(backend_id, offset)[0]
    assert text.split() == [*"".join(f"line {n} {'ä' * n}\n" for n in range(40)).split(), "no", "newline"]


def test_a_log_that_freezes_blocks_nobody_and_is_whole_in_the_end(bench: Bench, server: JobsServer) -> None:
    server.frozen_after, server.preamble = 4, ["pulling the image"]
    backend_id = bench.submit(TICKER)
    while not bench.new_runner().status(backend_id).state.terminal:
        began = time.monotonic()
        bench.new_runner().logs(backend_id, 0)
        assert time.monotonic() - began < 2
    assert bench.new_runner().status(backend_id).state == JobState.SUCCEEDED
    lines = whole_log(bench.new_runner(), backend_id).splitlines()
    assert [line for line in lines if line != "pulling the image"] == [
        *(f"line {n} {'ä' * n}" for n in range(40)), "no newline",
    ]  # fmt: skip


def test_a_job_waits_for_its_hardware_as_queued_and_without_cost(bench: Bench, server: JobsServer) -> None:
    server.scheduling_seconds = 0.5
    backend_id = bench.submit("print('done')")
    status = bench.new_runner().status(backend_id)
    assert (status.state, status.seconds, status.usd_micro) == (JobState.QUEUED, 0.0, 0)
    assert bench.new_runner().logs(backend_id, 0) == ("", 0)
    assert wait(bench.new_runner(), backend_id).state == JobState.SUCCEEDED


def test_a_job_of_an_organisation_is_found_watched_and_cancelled_there(bench: Bench, server: JobsServer) -> None:
    server.hub.orgs["acme"] = frozenset({"anna"})
    backend_id = submit(bench, SLEEPER, namespace="acme")
    assert backend_id.startswith("acme/")
    assert server.hub.dataset("acme/postgrad-run-1").private
    assert bench.new_runner().find(server.only.spec["labels"]["postgrad"]) == backend_id
    wait(bench.new_runner(), backend_id, JobState.RUNNING)
    bench.new_runner().cancel(backend_id)
    assert wait(bench.new_runner(), backend_id).state == JobState.CANCELLED
    assert server.hub.asked(f"POST /api/jobs/{backend_id}/cancel")


def test_a_machine_that_has_nothing_of_a_job_takes_it_up_from_its_id(bench: Bench, tmp_path: Path) -> None:
    script = "import os; os.mkdir('out'); open('out/a.txt', 'w').write('made'); print('printed')"
    backend_id = bench.submit(script)
    elsewhere = HfRunner(tmp_path / "elsewhere", "run-1", every=0.0)
    status = wait(elsewhere, backend_id)
    assert (status.state, status.exit_code) == (JobState.SUCCEEDED, 0)
    assert whole_log(elsewhere, backend_id) == "printed\n"
    elsewhere.fetch(backend_id, tmp_path / "here")
    assert (tmp_path / "here" / "out" / "a.txt").read_text() == "made"


def test_a_job_whose_price_has_risen_since_it_was_approved_is_not_started(bench: Bench, server: JobsServer) -> None:
    spec, key, folder = bench.job("print('done')", timeout=3600)
    approved = spec.estimate.model_copy(update={"usd_micro": 60 * 167})
    bench.new_runner().submit(spec.model_copy(update={"estimate": approved}), key, folder)
    spec, key, folder = bench.job("print('done')", timeout=3600)
    cheaper = spec.estimate.model_copy(update={"usd_micro": 59 * 167})
    with pytest.raises(BadInput, match=r"cpu-basic costs \$0.01 an hour now, more than `a test` was approved for"):
        bench.new_runner().submit(spec.model_copy(update={"estimate": cheaper}), key, folder)
    assert len(server.jobs) == 1


def test_a_job_costs_its_running_seconds_at_the_price_of_its_flavor(bench: Bench, server: JobsServer) -> None:
    backend_id = submit(bench, "print('done')", flavor="a10g-large")
    job = server.only
    assert eventually(lambda: job.finished)
    assert job.started is not None
    job.started -= 90.0
    seconds = job.plain()["durations"]["runningSecs"]
    status = wait(bench.new_runner(), backend_id)
    assert status.usd_micro == math.ceil(seconds * 25_000 / 60)
    assert abs(status.seconds - seconds) < 1


def test_only_a_completed_job_has_succeeded(bench: Bench, server: JobsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    backend_id = bench.submit(SLEEPER)
    wait(bench.new_runner(), backend_id, JobState.RUNNING)
    server.only.stage = "HIBERNATING"
    assert bench.new_runner().status(backend_id).state == JobState.RUNNING
    job = server.jobs.pop(server.only.id)
    assert bench.new_runner().status(backend_id).state == JobState.QUEUED, "the Hub may not know a new job yet"
    monkeypatch.setattr(hf, "GRACE", 0.0)
    unknown = bench.new_runner().status(backend_id)
    assert (unknown.state, unknown.error) == (JobState.UNKNOWN, f"HF Jobs has no job {backend_id} any more")
    server.jobs[job.id] = job
    job.stage = "DELETED"
    deleted = bench.new_runner().status(backend_id)
    assert (deleted.state, deleted.error) == (JobState.FAILED, "it was deleted on HF Jobs before it had ended")
    job.stage = "RUNNING"
    assert bench.new_runner().status(backend_id) == deleted, "a terminal state never changes"


def test_a_job_whose_output_could_not_be_kept_has_failed(bench: Bench, server: JobsServer) -> None:
    backend_id = bench.submit("print('done')")
    server.hub.trouble("POST /api/datasets/anna/postgrad-run-1/commit/", Fails(403), times=9)
    status = wait(bench.new_runner(), backend_id)
    assert (status.state, status.exit_code) == (JobState.FAILED, 75)
    assert status.error.startswith("what the job made could not be kept: ")
    with pytest.raises(Unavailable, match="left nothing in anna/postgrad-run-1"):
        bench.new_runner().fetch(backend_id, bench.paths.root)


def test_what_a_killed_job_had_kept_so_far_is_fetched(
    bench: Bench, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_order, "KEEP_EVERY", 0.3)
    script = """
import os, time
print("ready", flush=True)
os.makedirs("out/checkpoint-1")
for name in ("out/checkpoint-1/state.json", "out/half-written"):
    open(name, "w").write("{}")
answers = open("out/answers.jsonl", "w")
answers.write('{"id": 1}\\n{"id": 2')
answers.flush()
os.symlink("/etc/hostname", "out/checkpoint-1/link")
for name in ("out/checkpoint-1/state.json", "out/checkpoint-1"):
    os.utime(name, (1e9, 1e9))
os.utime("out/checkpoint-1/link", (1e9, 1e9), follow_symlinks=False)
print("saved", flush=True)
time.sleep(60)
"""
    spec, key, folder = bench.job(script)
    backend_id = bench.new_runner().submit(spec, key, folder)
    repo = server.hub.dataset("anna/postgrad-run-1")
    kept = {"out/checkpoint-1/state.json", "out/answers.jsonl"}
    assert eventually(lambda: {f"{key}/{name}" for name in kept} <= set(repo.head.files))
    process = server.only.process
    assert process is not None
    os.killpg(process.pid, signal.SIGKILL)
    status = wait(bench.new_runner(), backend_id)
    assert (status.state, status.exit_code) == (JobState.FAILED, 137)
    assert "killed by the system" in status.error
    bench.new_runner().fetch(backend_id, folder)
    assert {str(path.relative_to(folder)) for path in (folder / "out").rglob("*") if path.is_file()} == kept
    assert (folder / "out" / "answers.jsonl").read_text() == '{"id": 1}\n', "of what grows, the whole lines"
    assert f"{key}/log.txt" in repo.head.files
    assert whole_log(bench.new_runner(), backend_id) == "ready\nsaved\n"


def test_the_gpus_of_a_job_are_measured(bench: Bench, server: JobsServer) -> None:
    server.gpus = {
        name: {"utilization": use, "memory_used_bytes": gib * 2**30, "memory_total_bytes": 80 * 2**30}
        for name, use, gib in (("a", 90, 60), ("b", 70, 20))
    }
    backend_id = bench.submit(SLEEPER)
    wait(bench.new_runner(), backend_id, JobState.RUNNING)
    measured = bench.new_runner().metrics(backend_id)
    assert (measured["gpu_percent"], measured["gpu_memory_gib"], measured["cpu_percent"]) == (80, 80, 24)
    assert measured["memory_gib"] > 0
