"""Looks at what postgrad needs on this machine, and says what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from agents.jobs.hardware import local_hardware
from agents.sandbox import fault_of_this_machine, shortcomings_of_this_machine
from shared_memory.database import Database
from shared_memory.errors import PostgradError
from shared_memory.settings import Settings

Check = dict[str, Any]
"""`name`, `status` (ok | warning | error), `detail`, `advice`."""

FREE_GIB = 5.0
"""Room that a small run takes: base model, checkpoints, merged model."""

SLURM = ("sbatch", "squeue", "scancel", "sinfo")
"""The programs of Slurm without which no job is started; `sacct` and `sstat` are asked where they are."""

WRITABLE = "make the home writable, or set POSTGRAD_HOME to a folder you may write"


def examine(settings: Settings) -> list[Check]:
    """All checks, in the order in which a person would mend them."""
    return [
        _home(settings),
        _database(settings),
        _disk(settings),
        _hardware(),
        _sandbox(),
        *_packages(),
        _agents(),
        _token(),
        *_slurm(),
        *_tools(settings),
    ]


def _check(name: str, status: str, detail: str, advice: str = "") -> Check:
    return {"name": name, "status": status, "detail": detail, "advice": advice}


def _home(settings: Settings) -> Check:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return _check("home", "error", f"{settings.home}: {error.strerror}", WRITABLE)
    if not _is_writable(settings.home):
        return _check("home", "error", f"{settings.home} cannot be written", WRITABLE)
    return _check("home", "ok", str(settings.home))


def _is_writable(home: Path) -> bool:
    return os.access(home, os.W_OK)


def _database(settings: Settings) -> Check:
    try:
        Database.open(settings.database).close()
    except PostgradError as error:
        advice = "move the file away, or set `database` in config.toml" if _is_writable(settings.home) else WRITABLE
        return _check("database", "error", str(error), advice)
    return _check("database", "ok", str(settings.database))


def _disk(settings: Settings) -> Check:
    place = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1024**3
    if free < FREE_GIB:
        return _check(
            "disk", "warning", f"{free:.1f} GiB free", f"make room: a small run takes up to {FREE_GIB:.0f} GiB"
        )
    return _check("disk", "ok", f"{free:.0f} GiB free")


def _hardware() -> Check:
    machine = local_hardware()
    gpus = ", ".join(f"{gpu.name} ({gpu.memory_gib:.0f} GiB)" for gpu in machine.gpus) or "no GPU"
    return _check("hardware", "ok", f"{machine.cpu_cores} cores, {machine.ram_gib:.0f} GiB memory, {gpus}")


def _sandbox() -> Check:
    fault, _, advice = fault_of_this_machine().partition("; ")
    if fault:
        return _check("sandbox", "warning", f"{fault}: generators and generated code are refused", advice)
    if lacks := shortcomings_of_this_machine():
        advice = "a newer bubblewrap, or a container that may mount /proc, has it"
        return _check("sandbox", "warning", f"bubblewrap works, {lacks}: generated code runs in it", advice)
    return _check("sandbox", "ok", "bubblewrap works: generators and generated code run in it")


def _packages() -> list[Check]:
    """The extras that local jobs need."""
    checks = []
    for extra, modules in {"train": ("torch", "trl", "peft", "trackio"), "eval": ("inspect_ai",)}.items():
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        if absent:
            advice = f"pip install 'postgrad[{extra}]'"
            checks.append(_check(extra, "error", f"{', '.join(absent)} not installed: local jobs cannot run", advice))
        else:
            versions = ", ".join(f"{name} {importlib.metadata.version(name.replace('_', '-'))}" for name in modules)
            checks.append(_check(extra, "ok", versions))
    return checks


def _agents() -> Check:
    """PyPI's `openai-agents` installs a package called `agents` too; whichever came last wins."""
    import agents

    folder = Path(agents.__file__ or "").parent
    if not (folder / "brain.py").exists():
        return _check(
            "agents", "error", f"another package owns `agents` ({folder})", "give postgrad an environment of its own"
        )
    return _check("agents", "ok", "the package `agents` is postgrad's own")


def _token() -> Check:
    from huggingface_hub import get_token

    if os.environ.get("HF_TOKEN"):
        return _check("Hub", "ok", "HF_TOKEN is set")
    if get_token():
        return _check("Hub", "ok", "logged in by `hf auth login`")
    advice = "needed for gated models and HF Jobs; set HF_TOKEN, or `hf auth login`"
    return _check("Hub", "warning", "there is no token", advice)


def _slurm() -> list[Check]:
    """The programs that jobs on a cluster are started with; nothing on a machine that has none of them."""
    found = [name for name in SLURM if shutil.which(name)]
    if not found:
        return []
    if absent := [name for name in SLURM if name not in found]:
        return [_check("Slurm", "warning", f"{', '.join(absent)} not found", "install Slurm's client programs")]
    return [_check("Slurm", "ok", "its programs are here; `postgrad plan MODEL --on slurm` shows the partitions")]


def _tools(settings: Settings) -> list[Check]:
    """What people have added for the roles' models; nothing where they have added nothing. It starts their servers."""
    from agents.tools.people import People
    from agents.tools.servers import stop_servers

    faults: list[str] = []
    try:
        offers = People("doctor", settings, lambda name, find_out: find_out(), faults.append).offers()
    finally:
        stop_servers("doctor")
    names = ", ".join(f"{offer.name}{'' if offer.read_only else ' (asks)'}" for offer in offers.values())
    found = [_check("tools", "ok", names)] if offers else []
    return found + [_check("tools", "warning", *_fault_and_advice(line)) for line in faults]


def _fault_and_advice(line: str) -> tuple[str, str]:
    fault, _, advice = line.rpartition("; ")
    return (fault, advice) if fault else (line, "")


def show_examination(checks: list[Check]) -> None:
    """The checks as a table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}
    table = Table.grid(padding=(0, 2))
    for check in checks:
        mark, style = marks[check["status"]]
        advice = f"\n→ {check['advice']}" if check["advice"] else ""
        table.add_row(Text(mark, style), check["name"], Text(check["detail"] + advice))
    Console(highlight=False).print(table)
