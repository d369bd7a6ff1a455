"""What the processes of a job on this machine use now."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import suppress

import psutil

from agents import warden
from agents.jobs.hardware import GIB

LOOK_SECONDS = 0.1
"""Of processor time that the share of it is taken from."""


def measure(supervisor: int) -> dict[str, float]:
    """`cpu_percent` (100 is one core) and `memory_gib` of all that the process `supervisor` started, and `gpu_percent`
    and `gpu_memory_gib` where the job was given GPUs: their mean, and their sum. Empty where nothing runs any more."""
    before, began = warden.look(supervisor), time.monotonic()
    time.sleep(LOOK_SECONDS)
    after, seconds = warden.look(supervisor), time.monotonic() - began
    if not after.processes:
        return {}
    used = max(0.0, after.cpu - before.cpu)
    measured = {"cpu_percent": round(100 * used / seconds, 1), "memory_gib": round(after.memory / GIB, 3)}
    return measured | read_gpu_use(_nvidia_table(_gpus_of(supervisor)))


def read_gpu_use(table: str) -> dict[str, float]:
    """Rows `percent, MiB` of nvidia-smi, one a GPU; a cell that is no number says that the driver does not know."""
    rows = [[cell.strip() for cell in row.split(",")] for row in table.splitlines()]
    percents = [int(row[0]) for row in rows if row[0].isdigit()]
    mebibytes = [int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()]
    return {
        **({"gpu_percent": round(sum(percents) / len(percents), 1)} if percents else {}),
        **({"gpu_memory_gib": round(sum(mebibytes) / 1024, 3)} if mebibytes else {}),
    }


def _gpus_of(supervisor: int) -> str:
    """The indices that the job's first process was given, as CUDA_VISIBLE_DEVICES has them; empty for none."""
    with suppress(psutil.Error):
        for process in psutil.Process(supervisor).children():
            return process.environ().get("CUDA_VISIBLE_DEVICES", "")
    return ""


def _nvidia_table(indices: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None or not indices:
        return ""
    query = [program, f"--id={indices}", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""
