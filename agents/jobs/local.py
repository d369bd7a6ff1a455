"""Runs jobs on this machine: one detached supervisor and one device slot a job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from agents import sandbox
from agents.jobs import supervise
from agents.jobs.base import JobStatus, last_words
from agents.jobs.hardware import local_hardware
from shared_memory.errors import BadInput, Unavailable
from shared_memory.records import JobSpec, JobState

_PASSED_ON = """
    PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR VIRTUAL_ENV LD_LIBRARY_PATH CUDA_HOME OMP_NUM_THREADS MKL_NUM_THREADS
    XDG_CACHE_HOME HF_HOME HF_HUB_CACHE HF_DATASETS_CACHE HF_ENDPOINT HF_HUB_DISABLE_XET
    HF_HUB_OFFLINE HF_DATASETS_OFFLINE TRANSFORMERS_OFFLINE SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
"""
PASSED_ON = frozenset(_PASSED_ON.split())
"""Variables that a job gets from its submitter, `LC_*` besides; any other only by name, as one of its secrets.

CUDA_VISIBLE_DEVICES comes with the slot.
"""
SANDBOX_MEMORY = 0.5
"""Part of the machine's memory that a sandboxed job may use: the worker, and a job beside it, live on the rest."""
SANDBOX_PROCESSES = 64
"""Enough for a pool over the cores of a large machine; a fork bomb passes it in milliseconds."""
SANDBOX_DISK = 2 * sandbox.GIB
"""Of rows: a hundred times what a fine-tune of this size reads."""
SANDBOX_OUTPUT = 64 * sandbox.MIB
"""Of log: rows belong into out/, and what is printed is progress."""
OUT = "out"
"""The folder in a job's folder that takes what it makes; the only one that a sandboxed job may write to."""
LOG_PIECE = 2**20
"""Bytes of log that one call returns, unless a single line is longer."""
LOG_TAIL = 2**16
"""Bytes from the end of a log that are searched for the cause of a failure."""


class LocalRunner:
    """A JobRunner over processes of this machine; its backend id is the submission key."""

    name = "local"
    listing_grace = 0.0

    def __init__(self, slots: Path, jobs: Path, grace: float = 10.0) -> None:
        """slots: folder of device locks, the same for all runs of a home. jobs: folder of this run's job folders.

        grace: seconds that a job has to end after SIGTERM before it gets SIGKILL.
        """
        self._slots = slots.resolve()
        self._jobs = jobs.resolve()
        self._grace = grace

    def submit(self, spec: JobSpec, key: str, folder: Path) -> str:
        """Hand the job to a supervisor of its own; returns when that one has taken it.

        Raises BadInput for a folder that is not the key's, an unknown flavor or a secret that is not set, Unavailable
        if no supervisor can be started, or if a sandbox is asked for and does not work here.
        """
        if folder.resolve() != self._jobs / key:
            raise BadInput(f"{folder} is not the folder of job {key}; fill {self._jobs / key}")
        if self.find(key) is not None:
            return key
        order = supervise.Order(
            folder=str(self._jobs / key),
            key=key,
            command=_command(spec, key, folder.resolve()),
            timeout=spec.timeout_seconds,
            grace=self._grace,
            slots=self._slots_for(spec.flavor),
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
            error = last_words(_tail(folder / supervise.LOG), status.exit_code)
        if status.started is not None and status.ended is None:
            seconds = max(0.0, time.time() - status.started)
        return JobStatus(state=JobState(status.state), exit_code=status.exit_code, seconds=seconds, error=error)

    def logs(self, backend_id: str, offset: int) -> tuple[str, int]:
        # The state first: what a job printed before it was seen to have ended is all there is.
        folder = self._jobs / backend_id
        status = supervise.examine(folder, backend_id)
        ended = status is not None and status.terminal
        log = folder / supervise.LOG
        if not log.exists():
            return "", offset
        with log.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(LOG_PIECE)
            if b"\n" not in data:
                data += stream.readline()
            at_end = not stream.read(1)
        if not (ended and at_end):
            data = data[: data.rfind(b"\n") + 1]
        return data.decode(errors="replace"), offset + len(data)

    def cancel(self, backend_id: str) -> None:
        folder = self._jobs / backend_id
        if folder.is_dir():
            (folder / supervise.CANCEL).touch()

    def _slots_for(self, flavor: str) -> list[supervise.Slot]:
        """The devices that would do: the machine's one CPU slot, or any GPU. A job on the CPU sees no GPU."""
        self._slots.mkdir(parents=True, exist_ok=True)
        if flavor == "cpu":
            return [supervise.Slot(lock=str(self._slots / "cpu.lock"), environment={"CUDA_VISIBLE_DEVICES": ""})]
        if flavor != "gpu":
            raise BadInput(f"this machine has no flavor `{flavor}`; use `cpu` or `gpu`")
        gpus = local_hardware().gpus
        if not gpus:
            raise BadInput("this machine has no GPU that nvidia-smi lists; use the flavor `cpu`")
        return [
            supervise.Slot(
                lock=str(self._slots / f"gpu{gpu.index}.lock"),
                environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(gpu.index)},
            )
            for gpu in gpus
        ]


def _command(spec: JobSpec, key: str, folder: Path) -> list[str]:
    """What the supervisor starts. In a sandbox the script sees its own files and `out`, not the supervisor's records.

    Raises Unavailable where the sandbox that the spec asks for does not work, BadInput for a sandbox with secrets.
    """
    program = [sys.executable, spec.script, "--config", "config.json"]
    if not spec.sandbox:
        return program
    if spec.secrets:
        raise BadInput(f"a sandboxed job gets no secrets, and this one names {spec.secrets[0]}; take it out")
    (folder / OUT).mkdir(exist_ok=True)
    return sandbox.command(
        program,
        folder / OUT,
        sandbox_limits(spec.timeout_seconds),
        mode=spec.sandbox,
        cwd=folder,
        readable=[folder / name for name in (*spec.files, "config.json")],
        environment={supervise.STAMP: key},
    )


def sandbox_limits(timeout_seconds: float) -> sandbox.Limits:
    """How far a sandboxed job may go. The supervisor ends it in time; the sandbox would a minute later."""
    return sandbox.Limits(
        seconds=timeout_seconds + 60,
        memory=int(local_hardware().ram_gib * sandbox.GIB * SANDBOX_MEMORY),
        processes=SANDBOX_PROCESSES,
        file_size=SANDBOX_DISK,
        disk=SANDBOX_DISK,
        output=SANDBOX_OUTPUT,
    )


def job_environment(secrets: tuple[str, ...], trackio: Path) -> dict[str, str]:
    """All the variables that a job gets: PASSED_ON, those named in `secrets`, and settings of our own.

    Raises BadInput for a secret that is not set.
    """
    missing = [name for name in secrets if name not in os.environ]
    if missing:
        raise BadInput(f"the job needs {', '.join(missing)}, which is not set; export it, then resume")
    passed = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}
    return {
        **passed,
        # HOME is passed on, and with it the token that `hf auth login` left there: no job may read that one.
        "HF_TOKEN_PATH": os.devnull,
        **{name: os.environ[name] for name in secrets},
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRACKIO_DIR": str(trackio),
    }


def _tail(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - LOG_TAIL))
        return stream.read().decode(errors="replace")
