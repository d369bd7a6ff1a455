"""Starts one node's part of a job that trains across nodes. Standard library only; a copy lies in the job folder.

    srun … python launch.py PROCESSES SCRIPT ARGUMENTS…

`srun` starts it once a node. The node from which srun was called, the first one, holds torchrun's meeting point; its
port follows from Slurm's id of the job, so that two jobs that share a node do not meet there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

FIRST_PORT, PORTS = 20_000, 10_000
"""Below the range from which Linux gives ports to connections."""


def torchrun(processes: str, script: Sequence[str], slurm: Mapping[str, str]) -> list[str]:
    """The command line of one node. slurm: the variables that srun sets."""
    job = slurm["SLURM_JOB_ID"]
    is_host = slurm["SLURM_NODEID"] == "0"
    return [
        sys.executable, "-m", "torch.distributed.run",
        f"--nnodes={slurm['SLURM_NNODES']}",
        f"--nproc_per_node={processes}",
        f"--rdzv_id={job}",
        "--rdzv_backend=c10d",
        f"--rdzv_endpoint={slurm['SLURM_LAUNCH_NODE_IPADDR']}:{FIRST_PORT + int(job) % PORTS}",
        f"--rdzv_conf=is_host={str(is_host).lower()}",
        *script,
    ]  # fmt: skip


if __name__ == "__main__":
    command = torchrun(sys.argv[1], sys.argv[2:], os.environ)
    os.execv(command[0], command)  # noqa: S606  no shell is meant
