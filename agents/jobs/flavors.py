"""The hardware that jobs can have, with what it holds and costs: here, and on HF Jobs."""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agents.jobs.hardware import local_hardware
from shared_memory.errors import BadInput
from shared_memory.records import MICRO_USD, Record

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobHardwareInfo

TABLE = Path(__file__).with_suffix(".toml")
PATIENCE_SECONDS = 5.0
"""How long the live list is waited for."""
MINUTES = {"second": 1 / 60, "minute": 1.0, "hour": 60.0, "day": 1440.0}
"""Unit that the list prices in → its length."""
GB = 10**9 / 2**30
WITHOUT_BF16 = ("T4", "V100", "P100")
"""GPUs older than Ampere."""


class Flavor(Record):
    """Hardware that a job can ask for, as its runner calls it."""

    name: str
    gpu: str = ""
    """Model of its GPUs; empty without any."""
    gpus: int = 0
    vram_gib: float = 0.0
    """Memory of one GPU; 0 where nobody says."""
    cpu_cores: int = 0
    """0 where nobody says."""
    ram_gib: float = 0.0
    """Memory of the machine; 0 where nobody says."""
    usd_micro_per_minute: int = 0
    cpu_bf16: bool = False
    """Whether its processor is known to have instructions for bfloat16."""

    @property
    def bf16(self) -> bool:
        """Whether what trains there calculates in bfloat16."""
        return not any(old in self.gpu.upper().split() for old in WITHOUT_BF16) if self.gpus else self.cpu_bf16

    @property
    def room_gib(self) -> float:
        """Memory that one process may fill: a GPU's, or the machine's."""
        return self.vram_gib if self.gpus else self.ram_gib

    @property
    def devices(self) -> int:
        """Processes that can train together on it."""
        return max(1, self.gpus)

    @property
    def usd_per_hour(self) -> float:
        return round(self.usd_micro_per_minute * 60 / MICRO_USD, 4)

    def usd_micro(self, hours: float) -> int:
        """Price of so long a job: every minute that has begun counts."""
        return self.usd_micro_per_minute * math.ceil(round(hours * 60, 6))


class Flavors(Record):
    """What a runner offers."""

    flavors: tuple[Flavor, ...]
    source: Literal["live", "table", "here"]
    """The runner's own list as of now, the dated table of this package, or this machine."""
    note: str = ""
    """Where the list comes from, in words a person can judge."""

    def named(self, name: str) -> Flavor:
        """The flavor called `name`. Raises BadInput where there is none."""
        found = next((flavor for flavor in self.flavors if flavor.name == name), None)
        if found is None:
            raise BadInput(f"there is no flavor `{name}`; choose one of {', '.join(f.name for f in self.flavors)}")
        return found


def hf_flavors(api: HfApi | None = None) -> Flavors:
    """What HF Jobs offers and charges now; by the dated table where its list is out of reach or not understood."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's, as the client has it
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    session = get_session()
    patience, session.timeout = session.timeout, PATIENCE_SECONDS
    try:
        listed = (api or HfApi()).list_jobs_hardware()
        flavors = tuple(_flavor(hardware) for hardware in listed)
    except (HTTPError, OSError) as error:
        return _from_table(f"the list of HF Jobs is out of reach ({type(error).__name__})")
    except (KeyError, TypeError, ValueError) as error:
        return _from_table(f"the list of HF Jobs has another form ({error!r})")
    finally:
        session.timeout = patience
    return Flavors(flavors=flavors, source="live", note="prices of HF Jobs as of now")


def listed_flavors() -> Flavors:
    """What HF Jobs offered at the table's date: nothing is asked."""
    return _from_table("")


def local_flavors() -> Flavors:
    """This machine: `gpu` is one of its GPUs where it has any, `cpu` all its cores."""
    machine = local_hardware()
    flavors = [Flavor(name="cpu", cpu_cores=machine.cpu_cores, ram_gib=machine.ram_gib, cpu_bf16=machine.cpu_bf16)]
    if machine.gpus:
        one = {"name": "gpu", "gpu": machine.gpus[0].name, "gpus": 1, "vram_gib": machine.gpus[0].memory_gib}
        flavors.insert(0, flavors[0].model_copy(update=one))
    return Flavors(flavors=tuple(flavors), source="here", note="this machine")


def cheapest(flavors: Sequence[Flavor], memory_gib: float, hours: float | None = None) -> Flavor | None:
    """The flavor of the lowest price whose process has room for `memory_gib`; None where none has.

    Of two with one price the one with more room. One that does not say how much it has comes after those that do.
    hours: of the job, where it is the same on all of them.
    """
    fitting = [flavor for flavor in flavors if flavor.room_gib >= memory_gib]
    fitting = fitting or [flavor for flavor in flavors if not flavor.room_gib]
    return min(fitting, key=lambda flavor: (flavor.usd_micro(hours or 1.0), -flavor.room_gib), default=None)


def gpu_named(name: str) -> str:
    """The key of the table's GPU that a driver or a runner calls `name`; empty for one that it does not have."""
    words = re.sub(r"[^A-Z0-9]+", " ", name.upper()).split()
    known = sorted(_table()["gpu"], key=len, reverse=True)
    return next((gpu for gpu in known if all(word in words for word in gpu.upper().split())), "")


def tflops_of(name: str) -> float:
    """Peak bf16 TFLOP/s of a GPU by its maker's data sheet; 0 for one that the table does not have."""
    return float(_table()["gpu"].get(gpu_named(name), {}).get("tflops", 0.0))


def _flavor(hardware: JobHardwareInfo) -> Flavor:
    """From the client's record; GPU memory is that of all GPUs together there. Raises ValueError for unknown units."""
    if hardware.unit_label not in MINUTES:
        raise ValueError(f"prices are per {hardware.unit_label}")
    gpu = hardware.accelerator
    gpus = int(gpu.quantity) if gpu else 0
    vram = _number(gpu.vram) * GB / max(1, gpus) if gpu else 0.0
    known = _table()["gpu"].get(gpu_named(gpu.model), {}) if gpu else {}
    return Flavor(
        name=hardware.name,
        gpu=gpu.model if gpu else "",
        gpus=gpus,
        vram_gib=known.get("vram_gib", round(vram, 1)),
        cpu_cores=int(_number(hardware.cpu)),
        ram_gib=round(_number(hardware.ram) * GB, 1),
        usd_micro_per_minute=round(hardware.unit_cost_micro_usd / MINUTES[hardware.unit_label]),
    )


def _from_table(why: str) -> Flavors:
    table = _table()
    flavors = tuple(
        Flavor(
            name=name,
            gpu=row.get("gpu", ""),
            gpus=row.get("gpus", 0),
            vram_gib=table["gpu"][row["gpu"]]["vram_gib"] if "gpu" in row else 0.0,
            cpu_cores=row.get("cores", 0),
            ram_gib=round(row.get("ram", 0) * GB, 1),
            usd_micro_per_minute=round(row["usd"] * MICRO_USD / 60),
        )
        for name, row in table["flavor"].items()
    )
    note = f"prices of HF Jobs as documented on {table['date']}"
    return Flavors(flavors=flavors, source="table", note=f"{note}; {why}" if why else note)


def _number(text: str) -> float:
    """The number in `12 vCPU` or `46 GB`; 0 in a text without one."""
    found = re.match(r"\s*([\d.]+)", text)
    return float(found.group(1)) if found else 0.0


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))
