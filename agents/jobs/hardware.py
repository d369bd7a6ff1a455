"""What this machine has for a job: devices, memory, packages. Imports no torch."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from shared_memory.records import Record

GIB = 2**30

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "inspect-ai",
    "datasets",
    "tokenizers",
    "accelerate",
    "numpy",
)
"""Whose versions a job's result may depend on."""


class Gpu(Record):
    index: int
    """As nvidia-smi counts, which is CUDA's order under CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    uuid: str
    name: str
    memory_gib: float
    """0 where the driver does not say."""


class LocalHardware(Record):
    """The machine as its jobs see it: limits of a container count, not what lies beyond them."""

    cpu_cores: int
    ram_gib: float
    gpus: tuple[Gpu, ...] = ()
    cpu_bf16: bool = False
    """Whether the processor has instructions for bfloat16."""

    @property
    def flavor(self) -> str:
        """The flavor of a job that should have the best device: `gpu` (one of them) or `cpu`."""
        return "gpu" if self.gpus else "cpu"


@functools.cache
def installed_packages() -> dict[str, str]:
    """Name → version of Python and of the installed ones among PACKAGES."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
def local_hardware() -> LocalHardware:
    """This machine, looked at once per process."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    membership = _read(Path("/proc/self/cgroup"))
    return LocalHardware(
        cpu_cores=cpu_limit(len(_usable_cpus()), membership),
        ram_gib=round(memory_limit(memory, membership) / GIB, 2),
        gpus=tuple(visible(nvidia_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))),
        cpu_bf16=calculates_in_bf16(_read(Path("/proc/cpuinfo"))),
    )


def calculates_in_bf16(cpuinfo: str) -> bool:
    """Whether the first processor of /proc/cpuinfo has instructions for bfloat16, as torch asks for them."""
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return not {"avx512_bf16", "amx_tile"}.isdisjoint(flags.split())


def memory_limit(installed: int, membership: str, mounts: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a process may use: the smallest of what is installed and the limits of its control groups.

    membership: text of /proc/self/cgroup.
    """
    limits = [installed]
    for folder in _groups("memory", membership, mounts):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            if text.isdigit():
                limits.append(int(text))
    return min(limits)


def cpu_limit(usable: int, membership: str, mounts: Path = Path("/sys/fs/cgroup")) -> int:
    """Whole cores that a process may use, at least 1: what its affinity and the quotas of its control groups leave."""
    limits = [usable]
    for folder in _groups("cpu", membership, mounts):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if not quota:
            quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(period):
            limits.append(int(quota) // int(period))
    return max(1, min(limits))


def nvidia_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists; none where it is missing or its driver does not answer within 20 s."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return read_gpus(answer.stdout) if answer.returncode == 0 else []


def read_gpus(table: str) -> list[Gpu]:
    """Rows `index, uuid, name, MiB` of nvidia-smi."""
    gpus = []
    for row in table.splitlines():
        index, uuid, name, mebibytes = (cell.strip() for cell in row.split(","))
        memory = int(mebibytes) / 1024 if mebibytes.isdigit() else 0.0
        gpus.append(Gpu(index=int(index), uuid=uuid, name=name, memory_gib=round(memory, 2)))
    return gpus


def visible(gpus: list[Gpu], choice: str | None) -> list[Gpu]:
    """Those GPUs that CUDA_VISIBLE_DEVICES leaves (indices, or beginnings of UUIDs); all where it is not set."""
    if choice is None:
        return gpus
    chosen = [entry.strip() for entry in choice.split(",") if entry.strip()]
    return [
        gpu
        for gpu in gpus
        if any(entry == str(gpu.index) or (entry.startswith("GPU-") and gpu.uuid.startswith(entry)) for entry in chosen)
    ]


def _usable_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _groups(controller: str, membership: str, mounts: Path) -> Iterator[Path]:
    """Folders of the control groups that hold this process, up to the root, for cgroup v2 and v1."""
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = mounts / controller if controllers else mounts
        folder = root / path.lstrip("/")
        yield folder
        # A container may see a path that exists only outside of it; its own limits then lie at the mount's root.
        while folder != root and folder != folder.parent:
            folder = folder.parent
            yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
