"""What a job of ours is started with on a machine or a node: its command line, its variables, the sandbox's limits."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agents import sandbox
from agents.jobs import supervise
from shared_memory.errors import BadInput
from shared_memory.records import JobSpec, Purpose

_PASSED_ON = """
    PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR VIRTUAL_ENV LD_LIBRARY_PATH CUDA_HOME OMP_NUM_THREADS MKL_NUM_THREADS
    XDG_CACHE_HOME HF_HOME HF_HUB_CACHE HF_DATASETS_CACHE HF_ENDPOINT HF_HUB_DISABLE_XET
    HF_HUB_OFFLINE HF_DATASETS_OFFLINE TRANSFORMERS_OFFLINE SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
"""
PASSED_ON = frozenset(_PASSED_ON.split())
"""Variables that a job gets from its submitter, `LC_*` besides; any other only by name, as one of its secrets.

CUDA_VISIBLE_DEVICES comes with the device.
"""
SANDBOX_MEMORY = 0.5
"""Part of the machine's memory that a sandboxed job may use: the worker, and a job beside it, live on the rest."""
SANDBOX_PROCESSES = 64
"""Enough for a pool over the cores of a large machine; a fork bomb passes it in milliseconds."""
SANDBOX_DISK = 2 * sandbox.GIB
"""Of rows: a hundred times what a fine-tune of this size reads."""
TRAINING_DISK = 0.5
"""Part of the free disk that a sandboxed training may fill: checkpoints have the size of their model."""
SANDBOX_OUTPUT = 64 * sandbox.MIB
"""Of log: rows belong into out/, and what is printed is progress."""
OUT = "out"
"""The folder in a job's folder that takes what it makes; the only one that a sandboxed job may write to."""
NAMED = ("model", "teacher", "adapter", "resume_from")
"""Keys of a training's config that name folders of this machine, which a sandboxed script has to read."""


def python_command(spec: JobSpec, python: str = sys.executable) -> list[str]:
    """The script with its config; through torchrun, on one node, where several processes train together."""
    script = [spec.script, "--config", "config.json"]
    if spec.devices == 1:
        return [python, *script]
    return [python, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={spec.devices}", *script]


def job_command(spec: JobSpec, key: str, folder: Path, memory_gib: float) -> list[str]:
    """What a supervisor starts. In a sandbox the script sees its own files and `out`, not the supervisor's records.

    memory_gib: what a sandboxed job may use.
    Raises Unavailable where the sandbox that the spec asks for does not work, BadInput for a sandbox with secrets.
    """
    program = python_command(spec)
    if not spec.sandbox:
        return program
    if spec.secrets:
        raise BadInput(f"a sandboxed job gets no secrets, and this one names {spec.secrets[0]}; take it out")
    (folder / OUT).mkdir(exist_ok=True)
    return sandbox.command(
        program,
        folder / OUT,
        sandbox_limits(spec, memory_gib, free=shutil.disk_usage(folder).free),
        mode=spec.sandbox,
        cwd=folder,
        readable=[*(folder / name for name in (*spec.files, "config.json")), *_named(spec)],
        environment={supervise.STAMP: key, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )


def sandbox_limits(spec: JobSpec, memory_gib: float, free: int) -> sandbox.Limits:
    """How far a sandboxed job may go. The supervisor ends it in time; the sandbox would a minute later.

    free: bytes on the disk that it writes to.
    """
    disk = int(TRAINING_DISK * free) if spec.purpose is Purpose.TRAINING else SANDBOX_DISK
    return sandbox.Limits(
        seconds=spec.timeout_seconds + 60,
        memory=int(memory_gib * sandbox.GIB),
        processes=SANDBOX_PROCESSES,
        file_size=disk,
        disk=disk,
        output=SANDBOX_OUTPUT,
    )


def _named(spec: JobSpec) -> Iterator[Path]:
    """The folders that a training's config names, and what their files link to: the Hub's cache is made of links."""
    named: list[Any] = [spec.config.get(key) for key in NAMED] if spec.purpose is Purpose.TRAINING else []
    for folder in (Path(name) for name in named if isinstance(name, str)):
        if folder.is_absolute() and folder.is_dir():
            yield folder
            links = (path for path in folder.rglob("*") if path.is_symlink())
            yield from {path.resolve() for path in links if path.is_file()}


def job_environment(secrets: Sequence[str], trackio: Path) -> dict[str, str]:
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
