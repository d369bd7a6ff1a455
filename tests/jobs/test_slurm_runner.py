"""The Slurm runner, over a real cluster of two nodes on this machine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agents import sandbox
from agents.jobs import launch, supervise
from agents.jobs.base import JobStatus
from agents.jobs.slurm import node as slurm_node
from agents.jobs.slurm import programs as slurm_programs
from agents.jobs.slurm.order import sbatch_options
from agents.jobs.slurm.partitions import chosen, read_limit, read_offers
from agents.jobs.slurm.programs import Seen, read_sacct, read_size
from agents.jobs.slurm.runner import SlurmRunner
from agents.jobs.slurm.verdict import judge
from shared_memory.errors import BadInput, Unavailable, Uncertain
from shared_memory.records import JobState
from shared_memory.run_paths import RunPaths
from tests.jobs.conformance import SLEEPER, Bench, RunnerConformance, eventually, wait, wait_for_text
from tests.servers.slurm import SlurmCluster, missing, slurm_cluster

pytestmark = pytest.mark.slow

needs_slurm = pytest.mark.skipif(bool(missing()), reason=f"Slurm: {missing()}")
COUNTED = "open('runs', 'a').write('run\\n')"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def make_bench(home: Path) -> Bench:
    paths = RunPaths(home / "runs" / "run-1")
    new_runner = partial(SlurmRunner, paths.jobs, grace=0.5, poll_seconds=0.0, lag=1.0)
    return Bench(paths, new_runner, runner="slurm")


@pytest.fixture
def bench(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("SLURM_CONF", str(cluster.config))
    bench = make_bench(tmp_path)
    yield bench
    cluster.run("scancel", "--user=" + str(os.getuid()))
    assert eventually(lambda: not cluster.run("squeue", "--noheader")), "a job stayed on the cluster"


@needs_slurm
class TestSlurmRunner(RunnerConformance):
    @pytest.fixture
    def bench(self, bench: Bench) -> Bench:
        return bench


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines()) if (folder / "runs").exists() else 0


@needs_slurm
def test_a_job_that_waits_is_queued_and_is_cancelled_without_a_run(bench: Bench, cluster: SlurmCluster) -> None:
    runner = bench.new_runner()
    for sleeper in (bench.submit(SLEEPER), bench.submit(SLEEPER)):
        wait(runner, sleeper, JobState.RUNNING)
    spec, key, folder = bench.job(COUNTED)
    runner.submit(spec, key, folder)
    assert runner.status(key).state == JobState.QUEUED
    runner.cancel(key)
    assert wait(runner, key) == JobStatus(state=JobState.CANCELLED, error="cancelled on request")
    assert runs(folder) == 0


@needs_slurm
def test_a_job_that_somebody_else_cancels_is_cancelled_and_says_so(bench: Bench, cluster: SlurmCluster) -> None:
    key = bench.submit(SLEEPER)
    wait_for_text(bench.new_runner(), key, "up")
    cluster.run("scancel", f"--name=postgrad-{key}")
    status = wait(bench.new_runner(), key)
    assert (status.state, status.error[:24]) == (JobState.CANCELLED, "cancelled on the cluster")


@needs_slurm
def test_of_two_slurm_jobs_for_one_key_one_runs(
    bench: Bench, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, key, folder = bench.job(COUNTED + "; print('ran')")
    with monkeypatch.context() as patch:
        patch.setattr(SlurmRunner, "find", lambda *_: None)
        for _ in range(2):
            bench.new_runner().submit(spec, key, folder)
    assert wait(bench.new_runner(), key).state == JobState.SUCCEEDED
    assert eventually(lambda: not cluster.run("squeue", "--noheader"))
    states = cluster.run("squeue", "--noheader", "--states=all", f"--name=postgrad-{key}", "--format=%T").split()
    assert sorted(states) == ["COMPLETED", "FAILED"]
    assert runs(folder) == 1


@needs_slurm
def test_a_submission_whose_answer_gets_lost_is_uncertain_found_later_and_never_run_twice(
    bench: Bench, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, key, folder = bench.job(COUNTED)
    runner = bench.new_runner()
    ask = slurm_programs.submit
    controller = cluster.pid_of("slurmctld")

    def ask_a_frozen_controller(*order: object) -> str:
        os.kill(controller, signal.SIGSTOP)
        try:
            return ask(*order)  # type: ignore[arg-type]
        finally:
            os.kill(controller, signal.SIGCONT)

    with monkeypatch.context() as patch:
        patch.setattr(slurm_programs, "submit", ask_a_frozen_controller)
        with pytest.raises(Uncertain, match="which may have the job"):
            runner.submit(spec, key, folder)
    assert eventually(lambda: runner.find(key) == key)
    assert runner.submit(spec, key, folder) == key
    assert wait(runner, key).state == JobState.SUCCEEDED
    assert runs(folder) == 1


@needs_slurm
def test_a_controller_that_starts_anew_loses_no_job(bench: Bench, cluster: SlurmCluster) -> None:
    runner = bench.new_runner()
    key = bench.submit("import time\nprint('up')\ntime.sleep(2)\nprint('done')")
    wait_for_text(runner, key, "up")
    cluster.end("slurmctld")
    cluster.start_controller()
    assert wait(runner, key).state == JobState.SUCCEEDED
    assert runner.logs(key, 0)[0] == "up\ndone\n"


@needs_slurm
def test_a_controller_that_stays_away_is_said_to_and_takes_nothing(
    bench: Bench, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_programs, "PATIENCE_SECONDS", 0.0)
    spec, key, folder = bench.job(COUNTED)
    cluster.end("slurmctld")
    try:
        with pytest.raises(Unavailable, match=r"Slurm does not answer \(.*\); resume when it does"):
            bench.new_runner().submit(spec, key, folder)
    finally:
        cluster.start_controller()
    assert bench.new_runner().find(key) is None


@needs_slurm
def test_a_job_whose_node_fails_failed_with_that_cause(bench: Bench, cluster: SlurmCluster) -> None:
    key = bench.submit(SLEEPER)
    wait_for_text(bench.new_runner(), key, "up")
    node = cluster.run("squeue", "--noheader", f"--name=postgrad-{key}", "--format=%N").strip()
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    status = wait(bench.new_runner(), key)
    assert eventually(lambda: "down" not in cluster.run("sinfo", "--format=%T"))
    assert (status.state, status.error) == (JobState.FAILED, f"its node failed ({node})")


@needs_slurm
def test_a_supervisor_that_is_killed_takes_its_job_along_and_is_no_success(bench: Bench) -> None:
    key = bench.submit("import os, time\nprint('up', os.getppid())\ntime.sleep(60)")
    wait_for_text(bench.new_runner(), key, "up")
    status = supervise.read_status(bench.paths.job(key))
    assert status is not None
    os.kill(status.supervisor, signal.SIGKILL)
    ended = wait(bench.new_runner(), key)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, None)
    assert ended.error == "Slurm says FAILED, but nobody saw its script end: up " + str(status.supervisor)


@needs_slurm
def test_a_job_that_slurm_lost_is_given_up_for_good(bench: Bench, cluster: SlurmCluster) -> None:
    for _ in range(2):
        bench.submit(SLEEPER)
    spec, key, folder = bench.job(COUNTED)
    bench.new_runner().submit(spec, key, folder)
    cluster.end("slurmctld")
    cluster.start_controller("-c")
    ended = wait(bench.new_runner(), key)
    assert ended.state == JobState.FAILED
    assert ended.error == "Slurm has no record of it any more, and nobody saw it end"
    assert not slurm_node.claim(folder, "4711"), "whatever starts now finds the job taken"
    assert eventually(lambda: cluster.run("sinfo", "--noheader", "--format=%D %T").strip() == "2 idle", seconds=20)


@needs_slurm
def test_a_job_gets_its_own_environment_and_its_secret_is_in_no_file_and_no_record(
    bench: Bench, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMED_TOKEN", "canary-named")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    script = "import os\nprint('known' if os.environ.pop('NAMED_TOKEN') == 'canary-named' else '')\nprint(*os.environ)"
    key = bench.submit(script, secrets=["NAMED_TOKEN"])
    assert wait(bench.new_runner(), key).state == JobState.SUCCEEDED
    known, names = bench.new_runner().logs(key, 0)[0].splitlines()
    assert known == "known"
    ours = {"PYTHONUNBUFFERED", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM", "TRACKIO_DIR", "HF_TOKEN_PATH"}
    others = {name for name in names.split() if not name.startswith(("SLURM", "LC_"))}
    assert others - ours - {supervise.STAMP, "PWD", "ENVIRONMENT", "HOSTNAME"} <= launch.PASSED_ON
    slurm_id = json.loads((bench.paths.job(key) / "slurm.json").read_text())["slurm_id"]
    told = [cluster.run("scontrol", "show", "--details", "job", slurm_id)]
    told.append(cluster.run("scontrol", "write", "batch_script", slurm_id, "-"))
    told += [path.read_text() for path in bench.paths.job(key).iterdir() if path.is_file()]
    assert "canary-named" not in "".join(text for text in told if "print('known'" not in text)


@needs_slurm
def test_a_running_job_is_measured(bench: Bench) -> None:
    key = bench.submit("import time\nroom = bytearray(2**27)\nprint('up')\ntime.sleep(60)")
    wait_for_text(bench.new_runner(), key, "up")
    assert eventually(lambda: bench.new_runner().metrics(key).get("memory_gib", 0) > 0.125)


@needs_slurm
def test_a_sandboxed_job_runs_on_a_node(bench: Bench) -> None:
    if fault := sandbox.fault_of_this_machine():
        pytest.skip(fault)
    bench.sandbox = "auto"
    key = bench.submit("import os; print(sorted(os.listdir()), 'SLURM_JOB_ID' in os.environ)")
    assert wait(bench.new_runner(), key).state == JobState.SUCCEEDED
    assert bench.new_runner().logs(key, 0)[0] == "['config.json', 'job.py', 'out'] False\n"


@needs_slurm
def test_what_cannot_be_submitted_is_refused_with_the_next_move(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = bench.new_runner()
    spec, key, folder = bench.job(COUNTED, secrets=["NOT_SET_TOKEN"])
    for change, words in {
        "secrets": "NOT_SET_TOKEN, which is not set; export it",
        "flavor": "no such partition; choose one of `cpu`",
        "nodes": "`cpu` has 2 nodes, and the job asks for 3",
        "timeout_seconds": "runs a job for 2880 minutes at most",
        "image": "this cluster starts no containers",
    }.items():
        other = {"flavor": "gpu", "nodes": 3, "timeout_seconds": 200_000, "image": "python:3.11"}.get(change)
        changes = {} if other is None else {change: other, "secrets": ()}
        with pytest.raises(BadInput, match=words):
            runner.submit(spec.model_copy(update=changes), key, folder)
    spec, key, folder = bench.job(COUNTED)
    with pytest.raises(BadInput, match="is not the folder of job"):
        runner.submit(spec, key, tmp_path)
    monkeypatch.setenv("SBATCH_RESERVATION", "of_others")
    with pytest.raises(BadInput, match=r"Slurm does not take the job \(.*reservation.*\); change what it asks for"):
        runner.submit(spec, key, folder)
    assert runner.find(key) is None


def test_without_slurm_a_job_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    bench = make_bench(tmp_path)
    with pytest.raises(BadInput, match="is not on this machine; run postgrad on a login node of the cluster"):
        bench.submit(COUNTED)


@needs_slurm
def test_processes_that_train_together_meet_on_one_node_and_across_nodes(bench: Bench) -> None:
    script = """
import os
import torch.distributed as dist
dist.init_process_group("gloo")
seen = [None] * dist.get_world_size()
dist.all_gather_object(seen, (dist.get_rank(), os.environ["SLURMD_NODENAME"]))
if dist.get_rank() == 0:
    print(sorted(seen))
dist.destroy_process_group()
if FAILS:
    {}["loss"]
"""
    told = {}
    for devices, nodes, fails in ((2, 1, False), (1, 2, False), (2, 1, True)):
        spec, key, folder = bench.job(script.replace("FAILS", str(fails)), timeout=120)
        bench.new_runner().submit(spec.model_copy(update={"devices": devices, "nodes": nodes}), key, folder)
        status = wait(bench.new_runner(), key, seconds=120)
        assert status.state == (JobState.FAILED if fails else JobState.SUCCEEDED), bench.new_runner().logs(key, 0)[0]
        told[devices, nodes, fails] = status.error or bench.new_runner().logs(key, 0)[0]
    assert "[(0, 'n1'), (1, 'n1')]" in told[2, 1, False]
    # Which node gets which rank is Slurm's to say.
    assert any(pair in told[1, 2, False] for pair in ("[(0, 'n1'), (1, 'n2')]", "[(0, 'n2'), (1, 'n1')]"))
    assert told[2, 1, True] == "KeyError: 'loss'"


@pytest.mark.skipif(bool(missing(accounts=True)), reason=f"Slurm's accounts: {missing(accounts=True)}")
def test_what_the_controller_forgot_the_accounts_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a job at Slurm's own time limit, which takes it half a minute to notice, failed because of that."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with slurm_cluster(folder, forgets=2, accounts=True) as cluster:
        monkeypatch.setenv("SLURM_CONF", str(cluster.config))
        bench = make_bench(tmp_path)
        late = bench.submit(SLEEPER)
        wait_for_text(bench.new_runner(), late, "up")
        slurm_id = json.loads((bench.paths.job(late) / "slurm.json").read_text())["slurm_id"]
        cluster.run("scontrol", "update", f"JobId={slurm_id}", "EndTime=now")
        done, failed = bench.submit("print('done')"), bench.submit("{}['loss']")
        cancelled = bench.submit(SLEEPER)
        wait_for_text(bench.new_runner(), cancelled, "up")
        cluster.run("scancel", f"--name=postgrad-{cancelled}")
        assert eventually(lambda: not cluster.run("squeue", "--noheader", "--states=all"), seconds=100)
        patient = partial(SlurmRunner, bench.paths.jobs, poll_seconds=0.0, lag=60.0)
        ends = {key: wait(patient(), key) for key in (late, done, failed, cancelled)}
    assert (ends[late].state, ends[late].error) == (JobState.FAILED, "timed out: Slurm ended it at its time limit")
    assert ends[done].state == JobState.SUCCEEDED
    assert (ends[failed].state, ends[failed].error) == (JobState.FAILED, "KeyError: 'loss'")
    assert (ends[cancelled].state, ends[cancelled].error) == (
        JobState.CANCELLED,
        f"cancelled on the cluster (by {os.getuid()})",
    )


OWN_SUCCESS = supervise.Status(supervisor=1, queued=0, state="succeeded", exit_code=0)
OWN_FAILURE = supervise.Status(supervisor=1, queued=0, state="failed", exit_code=1)
OWN_RUNNING = supervise.Status(supervisor=1, queued=0, state="running")
OWN_STOPPED = supervise.Status(supervisor=1, queued=0, state="failed", exit_code=-15, error="stopped: …")
OWN_TIMEOUT = supervise.Status(supervisor=1, queued=0, state="failed", exit_code=-15, error="timed out after 60 s")


@pytest.mark.parametrize(
    ("word", "own", "state", "error"),
    [
        ("PENDING", None, "queued", ""),
        ("CONFIGURING", None, "queued", ""),
        ("PENDING", OWN_RUNNING, "running", ""),
        ("RUNNING", None, "running", ""),
        ("RUNNING", OWN_SUCCESS, "running", ""),
        ("COMPLETING", OWN_SUCCESS, "running", ""),
        ("COMPLETING", OWN_FAILURE, "running", ""),
        ("COMPLETED", OWN_SUCCESS, "succeeded", ""),
        ("COMPLETED", OWN_FAILURE, "failed", "its own words"),
        ("COMPLETED", None, "failed", "Slurm says COMPLETED on n1, but its script never started"),
        ("COMPLETED", OWN_RUNNING, "failed", "Slurm says COMPLETED, but nobody saw its script end"),
        ("FAILED", OWN_SUCCESS, "failed", "its script ended well, but Slurm says FAILED"),
        ("FAILED", OWN_FAILURE, "failed", "its own words"),
        ("FAILED", OWN_TIMEOUT, "failed", "timed out after 60 s"),
        ("CANCELLED", OWN_SUCCESS, "cancelled", "cancelled on the cluster"),
        ("CANCELLED", OWN_STOPPED, "cancelled", "cancelled on the cluster"),
        ("TIMEOUT", OWN_STOPPED, "failed", "timed out: Slurm ended it at its time limit"),
        ("TIMEOUT", OWN_TIMEOUT, "failed", "timed out after 60 s"),
        ("OUT_OF_MEMORY", OWN_FAILURE, "failed", "out of memory: it used more of its node's memory"),
        ("OUT_OF_MEMORY", OWN_SUCCESS, "failed", "out of memory: it used more of its node's memory"),
        ("PREEMPTED", OWN_STOPPED, "failed", "preempted by a job"),
        ("NODE_FAIL", OWN_RUNNING, "failed", "its node failed (n1)"),
        ("BOOT_FAIL", None, "failed", "its node did not start (n1)"),
        ("A_NEW_WORD", OWN_SUCCESS, "failed", "its script ended well, but Slurm says A_NEW_WORD"),
    ],
)
def test_a_job_has_ended_when_slurm_says_so_and_well_only_if_its_script_agrees(
    word: str, own: supervise.Status | None, state: str, error: str
) -> None:
    seen = Seen(slurm_id="1", state=word, ended=1.0, nodes="n1")
    status = judge(seen, own, "its own words", cancel_asked=False, settled=True)
    assert (status.state, status.error[: len(error)]) == (state, error)
    assert bool(status.error) == (state in ("failed", "cancelled"))


def test_an_end_that_the_folder_does_not_show_yet_is_waited_for() -> None:
    seen = Seen(slurm_id="1", state="COMPLETED", ended=1.0)
    for own in (None, OWN_RUNNING):
        assert judge(seen, own, "", cancel_asked=False, settled=False).state == JobState.RUNNING


NODES = """main|64|515000|gpu:a100:4(S:0-1)|3-00:00:00
main|64|515000|gpu:a100:4(S:0-1)|3-00:00:00
main|48|192000|(null)|3-00:00:00
debug|32|1|gpu:2|30:00
slices|128|1000000|gpu:nvidia_a100_3g.20gb:2(S:0),gpu:h100:6,nic:1|infinite"""


def test_partitions_become_flavors_one_for_every_kind_of_node() -> None:
    offers = {offer.name: offer for offer in read_offers(NODES)}
    assert list(offers) == ["debug:gpu", "main", "main:gpu:a100", "slices:gpu:nvidia_a100_3g.20gb"]
    assert (offers["main:gpu:a100"].gpus, offers["main:gpu:a100"].nodes, offers["main"].cores) == (4, 2, 48)
    assert (offers["debug:gpu"].gpus, offers["debug:gpu"].limit, offers["debug:gpu"].says_memory) == (2, 1800, False)
    assert read_limit("3-00:00:00") == 259_200
    assert read_limit("infinite") is None


def test_a_job_asks_for_its_gpus_and_for_what_goes_with_them(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    spec, key, folder = bench.job(COUNTED, timeout=3600)
    offers = read_offers(NODES)

    def asked(**changes: object) -> str:
        one = spec.model_copy(update=changes)
        return " ".join(sbatch_options(one, chosen(one, offers), key, folder, grace=10))

    quarter = asked(flavor="main:gpu:a100")
    assert (
        "--partition=main --nodes=1 --ntasks-per-node=1 --cpus-per-task=16 --gres=gpu:a100:1 --mem=122312M" in quarter
    )
    assert "--time=62 --no-requeue" in quarter
    whole = asked(flavor="main:gpu:a100", devices=4, nodes=2)
    assert "--nodes=2 --ntasks-per-node=1 --cpus-per-task=64 --gres=gpu:a100:4 --mem=0" in whole
    assert "--gres" not in asked(flavor="main")
    assert "--mem" not in asked(flavor="debug", timeout_seconds=60)
    with pytest.raises(BadInput, match="no such partition; choose one of `debug:gpu`, `main`"):
        asked(flavor="cpu")
    with pytest.raises(BadInput, match="has 4 GPUs, and the job asks for 8 on each"):
        asked(flavor="main:gpu:a100", devices=8)
    with pytest.raises(BadInput, match="for 30 minutes at most, and this one may take 62"):
        asked(flavor="debug")


def test_what_sacct_and_sstat_print_is_read() -> None:
    table = (
        "12|CANCELLED by 1000|None|1764400000|n1\n13|OUT_OF_MEMORY|None|1764400001|n[1-2]\n14|RUNNING|None|Unknown|n1"
    )
    cancelled, starved, running = read_sacct(table)
    assert (cancelled.state, cancelled.detail, cancelled.ended) == ("CANCELLED", "by 1000", 1764400000.0)
    assert (starved.state, starved.nodes) == ("OUT_OF_MEMORY", "n[1-2]")
    assert (running.active, running.ended) == (True, None)
    assert read_size("2097152K|2") == 4.0
    assert read_size("|") == 0.0
