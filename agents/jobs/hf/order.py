"""What the Hub is told of a job: image, command, variables, labels and the folder that is mounted."""

from __future__ import annotations

import os
from typing import Any

from agents.jobs.hf.staging import KEEP, MOUNT, OUT
from shared_memory.errors import BadInput
from shared_memory.records import MICRO_USD, JobSpec

LABEL, RUN_LABEL = "postgrad", "postgrad-run"
"""Labels of a job: its submission key, and its run."""
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
"""What a job runs in that names no image: the client's own default for uv scripts."""
UV = ("uv", "run", "--quiet")
"""Without a word but its errors: the log is the job's."""
HUB_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
"""What a job reads gated models with."""
KEEP_SECRET = "POSTGRAD_KEEP_TOKEN"  # noqa: S105 - the name of a variable
"""What keep.py uploads with; the job itself does not get to see it in its environment."""
KEEP_EVERY = 600
"""Seconds between two uploads of what a job has made so far."""


def secret(name: str) -> str:
    """What a job is to read in this variable, HUB_TOKEN also as `hf auth login` keeps it; empty where it is not set."""
    from huggingface_hub import get_token

    return os.environ.get(name) or (get_token() or "" if name == HUB_TOKEN else "")


def refuse_dearer(spec: JobSpec, usd_micro_per_minute: int) -> None:
    """Raise BadInput where a price has risen since the job was planned: its worst cost is what is held for it."""
    held = spec.estimate.usd_micro
    if 0 < held < usd_micro_per_minute * (spec.timeout_seconds // 60):  # whole minutes: the last one may be rounded
        now = usd_micro_per_minute * 60 / MICRO_USD
        raise BadInput(
            f"{spec.flavor} costs ${now:.2f} an hour now, more than `{spec.title}` was approved for; start a new run"
        )


def refuse_misfit(spec: JobSpec) -> None:
    """Raise BadInput for a job that cannot run on HF Jobs; nothing is asked for."""
    if spec.sandbox == "auto":
        raise BadInput("code that has to be kept apart does not run on HF Jobs; run this job on this machine")
    if spec.nodes > 1:
        raise BadInput("a job on HF Jobs has one node; choose a flavor with more GPUs")
    missing = [name for name in spec.secrets if not secret(name)]
    if missing:
        raise BadInput(f"the job needs {', '.join(missing)}, which is not set; export it, then resume")


def command_of(spec: JobSpec, key: str, repo_id: str, *, each_time: bool = False) -> list[str]:
    """The command: a list of arguments, never a shell's line. `each_time`: every run keeps what it makes for itself."""
    script = f"{MOUNT}/{spec.script}"
    run = [*UV, script]
    if spec.devices > 1:
        run = [*UV, "--with-requirements", script, "torchrun", "--standalone"]
        run += [f"--nproc-per-node={spec.devices}", script]
    keep = ["--repo", repo_id, "--folder", key, "--inputs", MOUNT, "--every", str(KEEP_EVERY)]
    keep += ["--each-time"] if each_time else []
    return [*UV, f"{MOUNT}/{KEEP.name}", *keep, "--", *run, "--config", f"{MOUNT}/config.json"]


def order_of(
    spec: JobSpec, key: str, run_id: str, namespace: str, repo_id: str, revision: str, *, each_time: bool = False
) -> dict[str, Any]:
    """Arguments for `HfApi.run_job`, and for `create_scheduled_job` but for its schedule."""
    from huggingface_hub import Volume, get_token

    return {
        "image": spec.image or IMAGE,
        "command": command_of(spec, key, repo_id, each_time=each_time),
        "env": {
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRACKIO_DIR": f"{OUT}/trackio",
        },
        "secrets": {KEEP_SECRET: get_token()} | {name: secret(name) for name in spec.secrets},
        "flavor": spec.flavor,
        "timeout": spec.timeout_seconds,
        "labels": {LABEL: key, RUN_LABEL: run_id},
        "volumes": [Volume(type="dataset", source=repo_id, revision=revision, path=key, mount_path=MOUNT)],
        "namespace": namespace,
    }
