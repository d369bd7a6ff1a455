"""The hardware of a Slurm cluster, as its partitions offer it."""

from __future__ import annotations

import re

from agents.jobs.flavors import Flavor
from agents.jobs.slurm.programs import nodes_of_partitions
from shared_memory.errors import BadInput
from shared_memory.records import JobSpec, Record

VRAM_GIB = {
    "t4": 16, "v100": 16, "p100": 16, "a10": 24, "a10g": 24, "a30": 24, "a40": 48, "a100": 40, "a6000": 48, "l4": 24,
    "l40": 48, "l40s": 48, "h100": 80, "h200": 141, "gh200": 96, "b200": 180, "rtx3090": 24, "rtx4090": 24,
}  # fmt: skip
"""GPU as clusters name it → GiB, the smaller where it comes in two sizes; Slurm itself does not say."""


class Offer(Record):
    """Nodes of one partition with the same devices: what a flavor stands for."""

    partition: str
    gres: str = ""
    """What to ask Slurm for, without a number, such as `gpu:a100`; empty without GPUs."""
    gpus: int = 0
    """Of one node; of the smallest one, as all that follows."""
    cores: int
    mebibytes: int
    """Memory; 1 where the cluster's administrator does not say."""
    nodes: int = 1
    limit: int | None = None
    """Seconds that the partition lets a job run."""

    @property
    def name(self) -> str:
        """The flavor's: the partition, with the GPUs where it has some."""
        return f"{self.partition}:{self.gres}" if self.gres else self.partition

    @property
    def says_memory(self) -> bool:
        return self.mebibytes > 1


def offers() -> list[Offer]:
    """What the cluster's partitions offer now. Raises BadInput where there is no Slurm, Unavailable if it is silent."""
    return read_offers(nodes_of_partitions())


def read_offers(table: str) -> list[Offer]:
    """From rows `partition|cores|MiB|gres|time limit`, one a node."""
    found: dict[str, Offer] = {}
    for row in table.splitlines():
        partition, cores, mebibytes, gres, limit = row.split("|", 4)
        kind, gpus = _gpus(gres)
        node = Offer(
            partition=partition,
            gres=kind,
            gpus=gpus,
            cores=_number(cores),
            mebibytes=_number(mebibytes),
            limit=read_limit(limit),
        )
        known = found.get(node.name)
        if known is not None:
            least = {key: min(getattr(known, key), getattr(node, key)) for key in ("gpus", "cores", "mebibytes")}
            node = known.model_copy(update={**least, "nodes": known.nodes + 1})
        found[node.name] = node
    return sorted(found.values(), key=lambda offer: offer.name)


def read_limit(text: str) -> int | None:
    """Seconds of `[days-]hours:minutes:seconds`, or of the `minutes:seconds` of a short one; None without a limit."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+)*", text):
        return None
    days, _, clock = text.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds + 86_400 * int(days or 0)


def slurm_flavors() -> tuple[Flavor, ...]:
    """The flavors of this cluster, without a price. VRAM is 0 where the name of the GPU does not tell it.

    Raises BadInput where there is no Slurm, Unavailable where its controller does not answer.
    """
    return tuple(
        Flavor(
            name=offer.name,
            gpu=offer.gres.partition(":")[2] or offer.gres,
            gpus=offer.gpus,
            vram_gib=float(_vram(offer.gres)),
            cpu_cores=offer.cores,
            ram_gib=round(offer.mebibytes / 1024, 2) if offer.says_memory else 0.0,
            usd_micro_per_minute=0,
        )
        for offer in offers()
    )


def chosen(spec: JobSpec, listed: list[Offer]) -> Offer:
    """The offer that a job's flavor names: a partition, or `partition:gres` where it has several kinds of nodes.

    Raises BadInput where there is none, or where it has not as much as the job asks for.
    """
    fitting = [offer for offer in listed if spec.flavor in (offer.name, offer.partition)]
    exact = [offer for offer in fitting if offer.name == spec.flavor]
    if len(exact or fitting) != 1:
        known = ", ".join(f"`{offer.name}`" for offer in listed) or "none that is up"
        which = "several kinds of nodes" if fitting else "no such partition"
        raise BadInput(f"flavor `{spec.flavor}`: Slurm has {which}; choose one of {known}")
    offer = (exact or fitting)[0]
    if offer.gpus and spec.devices > offer.gpus:
        raise BadInput(f"a node of `{offer.name}` has {offer.gpus} GPUs, and the job asks for {spec.devices} on each")
    if spec.nodes > offer.nodes:
        raise BadInput(f"`{offer.name}` has {offer.nodes} nodes, and the job asks for {spec.nodes}; ask for fewer")
    return offer


def _gpus(gres: str) -> tuple[str, int]:
    """Name and number of the GPUs in `gpu:a100:4(S:0-1),nic:2`; an empty name without any."""
    for entry in re.split(r",(?![^(]*\))", gres):
        parts = re.sub(r"\(.*\)$", "", entry).split(":")
        if parts[0] == "gpu":
            count = int(parts[-1]) if parts[-1].isdigit() and len(parts) > 1 else 1
            kind = [part for part in parts[:2] if not part.isdigit()]
            return ":".join(kind), count
    return "", 0


def _vram(gres: str) -> int:
    """From a type such as `a100`, `nvidia_a100` or `a100-80gb`, which says it itself."""
    kind = gres.partition(":")[2].lower()
    if match := re.search(r"(\d+)gb\b", kind):
        return int(match[1])
    words = re.split(r"[^a-z0-9]+", kind)
    return next((VRAM_GIB[word] for word in ["".join(words), *words] if word in VRAM_GIB), 0)


def _number(text: str) -> int:
    return int(re.sub(r"\D.*$", "", text) or 1)
