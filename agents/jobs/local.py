"""Runs jobs on this machine: one detached supervisor and one device slot a job."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from agents.jobs import supervise
from agents.jobs.base import JobStatus, last_words
from agents.jobs.hardware import GIB, local_hardware
from agents.jobs.launch import SANDBOX_MEMORY, job_command, job_environment
from agents.jobs.log_file import piece_of, tail_of
from agents.jobs.measure import measure
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import JobSpec, JobState


class LocalRunner:
    """A JobRunner over processes of this machine; its backend id is the submission key."""

    name = "local"
    listing_grace = 0.0

    def __init__(self, slots: Path, jobs: Path, grace: float = 10.0, memory_gib: float | None = None) -> None:
        """slots: folder of device locks, the same for all runs of a home. jobs: folder of this run's job folders.

        grace: seconds that a job has to end after SIGTERM before it gets SIGKILL. memory_gib: what a job may use of
        the machine's memory, over all its processes and without files that are mapped; it fails beyond. None leaves
        it to the machine.
        """
        self._slots = slots.resolve()
        self._jobs = jobs.resolve()
        self._grace = grace
        self._memory_gib = memory_gib

    def submit(self, spec: JobSpec, key: str, folder: Path) -> str:
        """Hand the job to a supervisor of its own; returns when that one has taken it.

        Raises BadInput for a folder that is not the key's, hardware that is not here or a secret that is not set,
        Unavailable if no supervisor can be started, or if a sandbox is asked for and does not work here.
        """
        if folder.resolve() != self._jobs / key:
            raise BadInput(f"{folder} is not the folder of job {key}; fill {self._jobs / key}")
        if self.find(key) is not None:
            return key
        most = local_hardware().ram_gib * SANDBOX_MEMORY
        order = supervise.Order(
            folder=str(self._jobs / key),
            key=key,
            command=job_command(spec, key, folder.resolve(), min(most, self._memory_gib or most)),
            timeout=spec.timeout_seconds,
            grace=self._grace,
            memory=int((self._memory_gib or 0) * GIB),
            **self._slots_for(spec),
        )
        started = subprocess.run(
            [sys.executable, "-I", supervise.__file__, json.dumps(order)],
            env=job_environment(spec.secrets, trackio=self._jobs.parent / "trackio"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if started.stdout.strip() not in ("claimed", "held"):
            cause = last_words(started.stdout, started.returncode)
            raise Unavailable(f"the job's supervisor could not start: {cause}; look at {folder}, then resume")
        return key

    def find(self, key: str) -> str | None:
        return key if (self._jobs / key / supervise.STATUS).exists() else None

    def status(self, backend_id: str) -> JobStatus:
        folder = self._jobs / backend_id
        status = supervise.examine(folder, backend_id)
        if status is None:
            return JobStatus(state=JobState.UNKNOWN, error=f"no job {backend_id} was started here")
        error, seconds = status.error, status.seconds
        if status.state == JobState.FAILED and not error:
            error = last_words(tail_of(folder / supervise.LOG), status.exit_code)
        if status.started is not None and status.ended is None:
            seconds = max(0.0, time.time() - status.started)
        return JobStatus(state=JobState(status.state), exit_code=status.exit_code, seconds=seconds, error=error)

    def logs(self, backend_id: str, offset: int) -> tuple[str, int]:
        # The state first: what a job printed before it was seen to have ended is all there is.
        folder = self._jobs / backend_id
        status = supervise.examine(folder, backend_id)
        return piece_of(folder / supervise.LOG, offset, ended=status is not None and status.terminal)

    def cancel(self, backend_id: str) -> None:
        folder = self._jobs / backend_id
        if folder.is_dir():
            (folder / supervise.CANCEL).touch()

    def fetch(self, backend_id: str, folder: Path) -> None:
        """Nothing to bring: the job wrote to its folder itself."""

    def metrics(self, backend_id: str) -> dict[str, float]:
        """What the job's processes and its GPUs use now; empty unless it is running."""
        status = supervise.examine(self._jobs / backend_id, backend_id)
        return measure(status.supervisor) if status is not None and status.state == "running" else {}

    def _slots_for(self, spec: JobSpec) -> supervise.Devices:
        """The devices that would do: the machine's one CPU slot, or any GPUs. A job on the CPU sees no GPU."""
        self._slots.mkdir(parents=True, exist_ok=True)
        if spec.nodes > 1:
            raise BadInput(f"the job asks for {spec.nodes} nodes, and this machine is one; run it on Slurm, or on one")
        if spec.flavor == "cpu":
            return {"slots": [supervise.Slot(lock=str(self._slots / "cpu.lock"), gpu="")], "devices": 1}
        if spec.flavor != "gpu":
            raise BadInput(f"this machine has no flavor `{spec.flavor}`; use `cpu` or `gpu`")
        gpus = local_hardware().gpus
        if not gpus:
            raise BadInput("this machine has no GPU that nvidia-smi lists; use the flavor `cpu`")
        if spec.devices > len(gpus):
            raise BadInput(f"the job asks for {spec.devices} GPUs, and this machine has {len(gpus)}; ask for fewer")
        slots = [supervise.Slot(lock=str(self._slots / f"gpu{gpu.index}.lock"), gpu=str(gpu.index)) for gpu in gpus]
        return {"slots": slots, "devices": spec.devices}
