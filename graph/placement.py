"""Where a job runs: what the roles ask for, put where the goal wants its jobs."""

from __future__ import annotations

from agents.base_model import BaseModel
from agents.jobs.flavors import Flavor, Flavors, cheapest, hf_flavors, local_flavors
from agents.jobs.hf.order import HUB_TOKEN
from agents.jobs.slurm.runner import slurm_flavors
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import JobSpec, Purpose

STAYS = (Purpose.GENERATION, Purpose.PUBLICATION)
"""What is done on this machine wherever the others are: code in its sandbox, and what only this process can."""
HEAD_ROOM = 1.1
"""Of memory over what is predicted."""


def offered(on: str) -> Flavors:
    """The hardware that jobs can have there now, and what it costs.

    Raises BadInput for `slurm` where there is none, and Unavailable where its controller does not answer.
    """
    if on == "slurm":
        return Flavors(flavors=slurm_flavors(), source="live", note="the cluster's partitions; it charges nothing")
    return hf_flavors() if on == "hf" else local_flavors()


def hardware_for(memory_gib: float, what: str, goal: Goal, flavors: Flavors) -> Flavor:
    """What a job of so much memory runs on: as the goal names it, else the cheapest with room.

    `what` is the job, for a person. Raises BadInput where nothing has room, or there is no flavor of that name.
    """
    if goal.run.flavor:
        return flavors.named(goal.run.flavor)
    flavor = cheapest(flavors.flavors, HEAD_ROOM * memory_gib)
    if flavor is None:
        raise BadInput(
            f"no hardware on {goal.run.on} has room for {memory_gib:.1f} GiB, which `{what}` needs; "
            "name one as [run] flavor, or take a smaller model"
        )
    return flavor


def placed(spec: JobSpec, goal: Goal, flavors: Flavors, model: BaseModel, *, token: bool) -> JobSpec:
    """The job on the runner of its goal, on hardware that holds it, with its worst cost there.

    A training comes with a flavor that its plan has chosen; for another job it is the cheapest with room. On HF Jobs a
    base `model` of the Hub is named, at its commit, and fetched there; a folder of this machine travels with the job.
    token: whether there is a token of the Hub to hand on. Raises BadInput where nothing has room, or the goal names a
    flavor that there is not.
    """
    on = goal.run.on
    if on == "local" or spec.purpose in STAYS:
        return spec
    if spec.purpose is Purpose.TRAINING:
        flavor = flavors.named(spec.flavor)
    else:
        flavor = hardware_for(spec.estimate.memory_gib, spec.title, goal, flavors)
    config = spec.config
    if on == "hf" and model.revision and config.get("model") == model.folder:
        config = {**config, "model": model.name, "revision": model.revision}
    worst = flavor.usd_micro(spec.timeout_seconds / 3600)
    if spec.purpose is Purpose.EVALUATION:
        worst += spec.estimate.usd_micro  # what a judge costs, wherever the job runs
    return spec.model_copy(
        update={
            "runner": on,
            "flavor": flavor.name,
            "config": config,
            "namespace": goal.run.namespace if on == "hf" else "",
            "image": goal.run.image,
            "secrets": (HUB_TOKEN, *spec.secrets) if on == "hf" and token and not spec.custom else spec.secrets,
            "estimate": spec.estimate.model_copy(update={"usd_micro": worst}),
        }
    )
