"""Runs jobs on a Slurm cluster whose nodes share the folder of the runs, and the Python that postgrad runs in."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.jobs import supervise
from agents.jobs.base import JobStatus, last_words
from agents.jobs.launch import job_environment
from agents.jobs.log_file import piece_of, tail_of
from agents.jobs.slurm import node as slurm_node
from agents.jobs.slurm import programs as slurm_programs
from agents.jobs.slurm.order import OUTPUT, job_name, node_command, sbatch_options
from agents.jobs.slurm.partitions import chosen, offers, slurm_flavors
from agents.jobs.slurm.programs import Seen
from agents.jobs.slurm.verdict import judge
from shared_memory.errors import BadInput
from shared_memory.records import JobSpec, JobState
from shared_memory.run_paths import write_atomically

__all__ = ["SlurmRunner", "slurm_flavors"]

BATCH = Path(__file__).with_name("batch.sh")
SUBMITTING, SUBMITTED, SEEN, ENDED = "slurm.lock", "slurm.json", "slurm_seen.json", "slurm_ended.json"
"""In the job folder: held while it is submitted · when it was · Slurm's latest word · the end, once it is known."""


class SlurmRunner:
    """A JobRunner over sbatch, squeue, sacct and scancel; its backend id is the submission key.

    The key is part of the job's name on the cluster, `postgrad-KEY`: with it, `squeue` and `sacct` find what was
    submitted even if the answer got lost. Should two jobs of a name be there, only the first to start runs.
    """

    name = "slurm"
    listing_grace = 0.0

    def __init__(self, jobs: Path, grace: float = 10.0, poll_seconds: float = 10.0, lag: float = 60.0) -> None:
        """jobs: folder of this run's job folders, on a file system that all nodes share.

        grace: seconds that a job has to end after SIGTERM before it gets SIGKILL. poll_seconds: how old Slurm's word
        may be, for the controller is everybody's. lag: seconds by which a file that a node wrote may come late here.
        """
        self._jobs = jobs.resolve()
        self._grace = grace
        self._poll_seconds = poll_seconds
        self._lag = lag

    def submit(self, spec: JobSpec, key: str, folder: Path) -> str:
        """Hand the job to Slurm.

        Raises BadInput for a folder that is not the key's, what the cluster does not have or refuses and a secret
        that is not set; Unavailable where the controller is out of reach or a sandbox does not work; Uncertain where
        the controller may have the job.
        """
        if folder.resolve() != self._jobs / key:
            raise BadInput(f"{folder} is not the folder of job {key}; fill {self._jobs / key}")
        with _one_at_a_time(folder):
            if self.find(key) is None:
                self._submit(spec, key, folder.resolve())
        return key

    def _submit(self, spec: JobSpec, key: str, folder: Path) -> None:
        offer = chosen(spec, offers())
        options = sbatch_options(spec, offer, key, folder, self._grace)
        order = supervise.Order(
            folder=str(folder),
            key=key,
            command=node_command(spec, offer, key, folder),
            timeout=spec.timeout_seconds,
            grace=self._grace,
            memory=0,
            slots=[],
            devices=0,
        )
        environment = job_environment(spec.secrets, trackio=self._jobs.parent / "trackio")
        write_atomically(folder / slurm_node.ORDER, json.dumps(order).encode())
        asked = time.time()
        program = [str(BATCH), sys.executable, slurm_node.__file__, str(folder)]
        slurm_id = slurm_programs.submit(options, program, environment)
        self._note_submission(folder, slurm_id, asked)

    def find(self, key: str) -> str | None:
        """The key itself, where its folder or the cluster has the job. Raises Unavailable where Slurm is silent."""
        folder = self._jobs / key
        if not folder.is_dir():
            return None
        if any((folder / name).exists() for name in (SUBMITTED, ENDED, slurm_node.CLAIM)):
            return key
        listed = slurm_programs.jobs_named(job_name(key), None)
        if not listed:
            return None
        self._note_submission(folder, listed[0].slurm_id, asked=None)
        return key

    def status(self, backend_id: str) -> JobStatus:
        """The job's state. Raises Unavailable where Slurm does not answer for a while: the job goes on without us."""
        folder = self._jobs / backend_id
        if (folder / ENDED).exists():
            return JobStatus.model_validate_json((folder / ENDED).read_text())
        if self.find(backend_id) is None:
            return JobStatus(state=JobState.UNKNOWN, error=f"Slurm has no job {job_name(backend_id)}")
        seen = self._seen(folder, backend_id)
        # Slurm's word first: what the folder says afterwards is at least as new.
        own = supervise.read_status(folder)
        status = self._gone(folder, own) if seen is None else self._judge(folder, seen, own)
        status = status.model_copy(update={"seconds": _running_time(own)})
        return self._settle(folder, status) if status.state.terminal else status

    def logs(self, backend_id: str, offset: int) -> tuple[str, int]:
        folder = self._jobs / backend_id
        return piece_of(folder / supervise.LOG, offset, ended=(folder / ENDED).exists())

    def cancel(self, backend_id: str) -> None:
        """Ask for the job's end, of the job itself and of Slurm. Raises Unavailable where Slurm does not answer."""
        folder = self._jobs / backend_id
        if not folder.is_dir() or (folder / ENDED).exists():
            return
        # A job that Slurm starts all the same finds this file, and ends.
        (folder / supervise.CANCEL).touch()
        (folder / SEEN).unlink(missing_ok=True)
        slurm_programs.cancel(job_name(backend_id))

    def fetch(self, backend_id: str, folder: Path) -> None:
        """Nothing to bring: the job wrote to its folder itself."""

    def metrics(self, backend_id: str) -> dict[str, float]:
        """`memory_gib` of a running job, where the cluster measures it."""
        folder = self._jobs / backend_id
        own = supervise.read_status(folder)
        slurm_id = slurm_node.claimed_by(folder)
        if own is None or own.terminal or not slurm_id:
            return {}
        memory = slurm_programs.memory_gib(slurm_id)
        return {} if memory is None else {"memory_gib": memory}

    def _seen(self, folder: Path, key: str) -> Seen | None:
        """Slurm's word on the job, at most `poll_seconds` old while nothing has changed; None where it has no record.

        Of several jobs of the name, that one counts which took the key; before that, one which still may.
        """
        own = supervise.read_status(folder)
        kept = _kept(folder / SEEN, self._poll_seconds)
        if kept is not None and kept.active and not (own is not None and own.terminal):
            return kept
        submitted = json.loads((folder / SUBMITTED).read_text())["asked"] if (folder / SUBMITTED).exists() else None
        listed = slurm_programs.jobs_named(job_name(key), submitted)
        holder = slurm_node.claimed_by(folder)
        if holder:
            listed = [seen for seen in listed if seen.slurm_id == holder]
        if not listed:
            return None
        seen = next((seen for seen in listed if seen.active), listed[-1])
        write_atomically(folder / SEEN, seen.model_dump_json().encode())
        return seen

    def _judge(self, folder: Path, seen: Seen, own: supervise.Status | None) -> JobStatus:
        settled = seen.ended is None or time.time() - seen.ended > self._lag
        cause = ""
        if not seen.active:
            never_started = own is None
            log = folder / (OUTPUT if never_started else supervise.LOG)
            cause = last_words(tail_of(log), own.exit_code if own is not None else None)
        return judge(seen, own, cause, (folder / supervise.CANCEL).exists(), settled)

    def _gone(self, folder: Path, own: supervise.Status | None) -> JobStatus:
        """The state of a job of which Slurm has no record (any more): what it wrote itself, or that it is lost.

        It is given up only when no record can be merely late, and in a way that it can never start afterwards.
        """
        if own is not None and own.terminal:
            error = own.error
            if own.state == "failed" and not error:
                error = last_words(tail_of(folder / supervise.LOG), own.exit_code)
            return JobStatus(state=JobState(own.state), exit_code=own.exit_code, error=error)
        heard = max(path.stat().st_mtime for path in folder.iterdir())
        if time.time() - heard <= self._lag:
            return JobStatus(state=JobState.RUNNING if own is not None else JobState.QUEUED)
        cancelled = (folder / supervise.CANCEL).exists()
        if own is None and not slurm_node.claim(folder, slurm_id="") and slurm_node.claimed_by(folder):
            return JobStatus(state=JobState.RUNNING)  # it started this very moment
        (folder / supervise.CANCEL).touch()  # for a supervisor that Slurm lost sight of, and that is still there
        lost = "cancelled on request" if cancelled else "Slurm has no record of it any more, and nobody saw it end"
        return JobStatus(state=JobState.CANCELLED if cancelled else JobState.FAILED, error=lost)

    def _note_submission(self, folder: Path, slurm_id: str, asked: float | None) -> None:
        """asked: when, in seconds since the epoch; None where the answer got lost and the job was found by its name."""
        write_atomically(folder / SUBMITTED, json.dumps({"slurm_id": slurm_id, "asked": asked}).encode())

    def _settle(self, folder: Path, status: JobStatus) -> JobStatus:
        """Keep the end as the first that saw it has it: a terminal state never changes."""
        temporary = folder / f".{ENDED}.{os.getpid()}.part"
        write_atomically(temporary, status.model_dump_json().encode())
        try:
            (folder / ENDED).hardlink_to(temporary)
        except FileExistsError:
            return JobStatus.model_validate_json((folder / ENDED).read_text())
        finally:
            temporary.unlink()
        return status


def _running_time(own: supervise.Status | None) -> float:
    """Seconds by the node's own clock."""
    if own is None or own.started is None:
        return 0.0
    if own.terminal:
        return own.seconds
    return max(0.0, time.time() - own.started)


def _kept(path: Path, seconds: float) -> Seen | None:
    """What was seen in the last `seconds`."""
    try:
        if time.time() - path.stat().st_mtime < seconds:
            return Seen.model_validate_json(path.read_text())
    except FileNotFoundError:
        pass
    return None


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other processes from submitting the key meanwhile. Not every shared file system locks across machines: then
    two jobs of one name may be queued, of which one runs."""
    lock = supervise.wait_for_lock(folder / SUBMITTING)
    try:
        yield
    finally:
        os.close(lock)
