"""What Slurm is asked for with a job, and what runs on its nodes."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

from agents.jobs.launch import SANDBOX_MEMORY, job_command, python_command
from agents.jobs.slurm import launch as slurm_launch
from agents.jobs.slurm import programs as slurm_programs
from agents.jobs.slurm.partitions import Offer
from shared_memory.errors import BadInput
from shared_memory.records import JobSpec

OUTPUT = "slurm.out"
"""What the batch script itself printed, in the job folder."""
MINUTES_TO_SPARE = 1
"""By which Slurm's own limit is later than ours, which says more and lets the script tidy up."""
SHARE_OF_MEMORY = 0.95
"""Of what goes with the GPUs that a job takes: nodes keep some for themselves."""
UNSAID_MEMORY_GIB = 4.0
"""Of a node whose administrator does not say; for the limit of a sandbox."""


def job_name(key: str) -> str:
    """What the job is called on the cluster."""
    return f"postgrad-{key}"


def sbatch_options(spec: JobSpec, offer: Offer, key: str, folder: Path, grace: float) -> list[str]:
    """What Slurm is asked for: the job's devices, and the part of each node's cores and memory that goes with them.

    Raises BadInput for a time that the partition does not give.
    """
    minutes = math.ceil((spec.timeout_seconds + grace) / 60) + MINUTES_TO_SPARE
    if offer.limit is not None and minutes * 60 > offer.limit:
        raise BadInput(
            f"`{offer.name}` runs a job for {offer.limit // 60} minutes at most, and this one may take {minutes}; "
            "plan a shorter one, or choose another partition"
        )
    whole = not offer.gpus or spec.devices == offer.gpus
    share = 1.0 if whole else SHARE_OF_MEMORY * spec.devices / offer.gpus
    memory = "--mem=0" if whole else f"--mem={int(offer.mebibytes * share)}M"
    return [
        f"--job-name={job_name(key)}",
        f"--partition={offer.partition}",
        f"--nodes={spec.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={_cores(spec, offer)}",
        *([f"--gres={offer.gres}:{spec.devices}"] if offer.gres else []),
        *([memory] if offer.says_memory else []),
        f"--time={minutes}",
        "--no-requeue",
        f"--chdir={folder}",
        f"--output={folder / OUTPUT}",
        "--open-mode=append",
    ]


def node_command(spec: JobSpec, offer: Offer, key: str, folder: Path) -> list[str]:
    """What the supervisor on the first node starts: the script by itself, or through srun on every node.

    Raises BadInput where a container or several nodes are asked for that cannot be had.
    """
    if spec.sandbox and (spec.image or spec.nodes > 1):
        raise BadInput("a sandboxed job runs on one node and in no image; change its hardware, then resume")
    if spec.image:
        return _in_image(spec, offer, folder)
    if spec.nodes == 1:
        memory_gib = offer.mebibytes / 1024 if offer.says_memory else UNSAID_MEMORY_GIB
        return job_command(spec, key, folder, memory_gib * SANDBOX_MEMORY)
    return [*_srun(spec, offer), *_across_nodes(spec, folder, sys.executable)]


def _in_image(spec: JobSpec, offer: Offer, folder: Path) -> list[str]:
    """The job in a container that sees its folder and has a Python of its own: by Pyxis, or by Apptainer."""
    inside = python_command(spec, "python3") if spec.nodes == 1 else _across_nodes(spec, folder, "python3")
    if slurm_programs.takes_images():
        mounts = [f"--container-mounts={folder}:{folder}", f"--container-workdir={folder}"]
        return [*_srun(spec, offer), f"--container-image={spec.image}", *mounts, *inside]
    program = next(filter(None, map(shutil.which, ("apptainer", "singularity"))), None)
    if program is None:
        raise BadInput(
            "this cluster starts no containers: Slurm has no Pyxis, and there is no apptainer; take the image out"
        )
    image = spec.image if "://" in spec.image or Path(spec.image).exists() else f"docker://{spec.image}"
    nvidia = ["--nv"] if offer.gpus else []
    contained = [program, "exec", *nvidia, "--bind", str(folder), "--pwd", str(folder), image, *inside]
    return [*_srun(spec, offer), *contained] if spec.nodes > 1 else contained


def _srun(spec: JobSpec, offer: Offer) -> list[str]:
    """One task a node, with all the cores that the job has there: srun takes none of it from the job by itself."""
    tasks = [
        f"--nodes={spec.nodes}",
        f"--ntasks={spec.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={_cores(spec, offer)}",
    ]
    return ["srun", *tasks, "--kill-on-bad-exit=1"]


def _cores(spec: JobSpec, offer: Offer) -> int:
    """Of one node: the part that goes with the GPUs, all of them without any."""
    return max(1, offer.cores * spec.devices // offer.gpus) if offer.gpus else offer.cores


def _across_nodes(spec: JobSpec, folder: Path, python: str) -> list[str]:
    """torchrun on every node, started by a copy of `launch.py` that a container sees, too."""
    launcher = shutil.copyfile(slurm_launch.__file__, folder / "launch.py")
    return [python, str(launcher), str(spec.devices), spec.script, "--config", "config.json"]
