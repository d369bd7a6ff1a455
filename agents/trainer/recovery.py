"""What to do about a job that failed: the same mathematics once more, in a way that may succeed.

A remedy changes how much a job takes and where it runs, never what it computes: the batch behind a weight update, the
data, the method and the optimizer stay as they were. What would change them is for the trainer's brain to propose, and
for a person to approve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from agents.trainer.methods import METHODS
from shared_memory.jobs import Diagnosis, JobSpec, Purpose
from shared_memory.record import Record

if TYPE_CHECKING:
    from agents.jobs.flavors import Flavor

ATTEMPTS = 3
"""Tries at one piece of work, the first included."""
AGAIN = "; again "
"""What stands in a title between the job's own and what a remedy changed in it."""
MORE_TIME = 2
"""How many times the time-out of a job that it was too short for."""
MAY_HAVE_PASSED = ("network", "disk_full")
"""Failures that another try may not meet, though nothing is different: somebody may have made room on this machine."""
ITS_OWN = ("teacher", "publisher", "endpoint", "action")
"""Runners whose work is kept row by row, file by file and answer by answer, and that try again themselves; what an
action did is never done again."""


class Remedy(Record):
    """Another try at a job that failed."""

    what: str
    """What is different, in one line for a person."""
    spec: JobSpec
    """The job to submit; of one scope with the one that failed."""


def remedy(
    spec: JobSpec,
    diagnosis: Diagnosis,
    tried: Sequence[tuple[JobSpec, Diagnosis]] = (),
    flavors: Sequence[Flavor] = (),
    checkpoint: str = "",
) -> Remedy | None:
    """The next try at `spec`, which failed as `diagnosis` says; None where another one would not help.

    tried: the earlier tries at this job, oldest first, and how they failed. flavors: hardware that its runner offers.
    checkpoint: the last one that the job left, or its answers, as its config's `resume_from` would name them; empty for
    none. After ATTEMPTS tries there is no other, and none is the same as one that failed in the same way, except that a
    connection or a machine that was lost, or a disk of this machine that was full, is tried again once.
    """
    if len(tried) + 1 >= ATTEMPTS or spec.runner in ITS_OWN:
        return None
    earlier = [(each.digest, failure.kind) for each, failure in tried]
    last = len(tried) + 2 == ATTEMPTS
    for what, change in _ways(spec, diagnosis, flavors, checkpoint, last):
        derived = _derived(spec, what, change)
        again = diagnosis.kind in MAY_HAVE_PASSED and derived.digest == spec.digest
        if (derived.digest, diagnosis.kind) in earlier or (derived.digest == spec.digest and not again):
            continue
        return Remedy(what=what, spec=derived)
    return None


def _ways(
    spec: JobSpec, diagnosis: Diagnosis, flavors: Sequence[Flavor], checkpoint: str, last: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may help, the mildest first: in words, and as what changes in the spec."""
    resumed = {"resume_from": checkpoint} if checkpoint and "resume_from" in spec.config else {}
    answers = spec.purpose is Purpose.EVALUATION
    left = "the answers that it left" if answers else PurePath(checkpoint).name
    on_from = f"from {left}" if resumed else ""
    match diagnosis.kind:
        case "out_of_memory":
            # An evaluation has taken fewer prompts at a time by itself, down to one.
            for what, changed in () if answers else _smaller(spec.config, spec.devices * spec.nodes, last):
                yield _joined(what, on_from), {"config": changed | resumed}
            yield from _bigger(spec, flavors, "vram_gib", resumed, on_from)
        case "out_of_host_memory":
            if _on_processor(spec, flavors):
                smaller = _smaller(spec.config, spec.devices * spec.nodes, last)
                for what, changed in _fewer_prompts(spec.config) if answers else smaller:
                    yield _joined(what, on_from), {"config": changed | resumed}
            yield from _bigger(spec, flavors, "ram_gib", resumed, on_from)
        case "timed_out":
            if resumed:
                yield on_from, {"config": resumed}
            seconds = MORE_TIME * spec.timeout_seconds
            cost = MORE_TIME * spec.estimate.usd_micro
            yield (
                _joined(f"with {seconds / 3600:.3g} h instead of {spec.timeout_seconds / 3600:.3g} h", on_from),
                {"timeout_seconds": seconds, "usd_micro": cost, "config": resumed},
            )
        case "network" | "disk_full" if diagnosis.kind == "network" or spec.runner == "local":
            yield on_from or "unchanged", {"config": resumed}
        case _:
            return


def _smaller(config: dict[str, Any], processes: int, last: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fewer rows on a device at once, and activations computed twice instead of kept; the last try takes both.

    The batch behind a weight update stays exactly what it is: `batch` = `micro_batch` × accumulation × processes. Where
    the rows of a micro-batch are compared with one another, they stay together.
    """
    batch, rows = config.get("batch"), config.get("micro_batch")
    fewer = 0
    compared = config.get("method") in METHODS and METHODS[config["method"]].smallest_micro_batch > 1
    if isinstance(batch, int) and isinstance(rows, int) and not compared:
        fewer = next((n for n in range(rows // 2, 0, -1) if batch % (n * processes) == 0), 0)
    recompute = {"activation_checkpointing": True} if config.get("activation_checkpointing") is False else {}
    halved = f"with micro-batches of {fewer} instead of {rows}, the batch of {batch} unchanged"
    if fewer and recompute and last:
        yield f"{halved}, and activation checkpointing", {"micro_batch": fewer, **recompute}
    if fewer:
        yield halved, {"micro_batch": fewer}
    if recompute:
        yield "with activation checkpointing", recompute


def _fewer_prompts(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of an evaluation: each answer is one prompt's alone, whatever it is written beside."""
    rows = config.get("micro_batch")
    if isinstance(rows, int) and rows > 1:
        yield f"with {rows // 2} prompts at a time instead of {rows}", {"micro_batch": rows // 2}


def _bigger(
    spec: JobSpec, flavors: Sequence[Flavor], size: str, resumed: dict[str, Any], on_from: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Hardware with more memory of the kind that was missing, the cheapest first; the same number of processes."""
    now = next((flavor for flavor in flavors if flavor.name == spec.flavor), None)
    if now is None or not getattr(now, size):
        return  # nobody knows how much there is now
    enough = [
        flavor for flavor in flavors if getattr(flavor, size) > getattr(now, size) and _as_good(flavor, now, spec)
    ]
    for flavor in sorted(enough, key=lambda each: (each.usd_micro_per_minute, getattr(each, size))):
        cost = -(-flavor.usd_micro_per_minute * spec.timeout_seconds * spec.nodes // 60)
        what = f"on {flavor.name} ({getattr(flavor, size):g} GiB instead of {getattr(now, size):g})"
        yield (
            _joined(what, on_from),
            {"flavor": flavor.name, "usd_micro": cost, "config": resumed},
        )


def _as_good(flavor: Flavor, now: Flavor, spec: JobSpec) -> bool:
    """Whether the job computes there what it computes now: on the same kind of device, one for each process, and in
    bfloat16 or not (mixed precision takes what the device has)."""
    alike = bool(flavor.gpus) == bool(now.gpus) and flavor.bf16 == now.bf16
    return alike and flavor.devices >= spec.devices


def _on_processor(spec: JobSpec, flavors: Sequence[Flavor]) -> bool:
    """Whether the machine's memory is the one that the model trains in."""
    now = next((flavor for flavor in flavors if flavor.name == spec.flavor), None)
    return now.gpus == 0 if now is not None else spec.flavor.startswith("cpu")


def _derived(spec: JobSpec, what: str, change: dict[str, Any]) -> JobSpec:
    estimate = spec.estimate.model_copy(update={"usd_micro": change.get("usd_micro", spec.estimate.usd_micro)})
    return spec.model_copy(
        update={
            "title": f"{spec.title.partition(AGAIN)[0]}{AGAIN}{what}",
            "config": spec.config | change["config"],
            "estimate": estimate,
            "flavor": change.get("flavor", spec.flavor),
            "timeout_seconds": change.get("timeout_seconds", spec.timeout_seconds),
        }
    )


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
