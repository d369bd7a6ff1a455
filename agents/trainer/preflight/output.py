"""Checks of whether anything is left when the job ends: hardware that can do it, a disk that keeps it, time enough."""

from __future__ import annotations

from agents.trainer.preflight.case import Case
from agents.trainer.preflight.report import Check, fault, ok, skipped, warning

HEADROOM = 1.5
"""Time-out over predicted time below which a person is warned: predictions are off by a third at times."""
PUSHES = ("push_to_hub", "upload_folder", "upload_file", "upload_large_folder", "create_commit")
"""Calls that bring something to the Hub."""
ENDPOINTS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def output_kept(case: Case) -> Check:
    """What the job writes outlives its disk [field fault 13]."""
    name = "output_kept"
    disk = case.facts.disk or ("ephemeral" if case.spec.runner == "hf" else "kept")
    if disk == "kept":
        return ok(name, "the job's disk is kept")
    fix = "set push_to_hub and hub_model_id"
    if not pushes(case):
        return fault(name, "the disk is gone when the job ends, and nothing is pushed from it", fix)
    if case.config.get("push_to_hub") and not case.config.get("hub_model_id"):
        return fault(name, "push_to_hub is set without hub_model_id", "name the repository: hub_model_id")
    if not any(token in case.spec.secrets for token in ENDPOINTS):
        return fault(name, "the job pushes to the Hub, and gets no token", "add HF_TOKEN to the job's secrets")
    return ok(name, "what the job writes is pushed")


def pushes(case: Case) -> bool:
    """Whether the job brings what it made to the Hub."""
    if "push_to_hub" in case.config:
        return bool(case.config["push_to_hub"])
    if not case.spec.custom:
        return False  # ours does what its config says, and holds the calls to do it
    by_keyword = (constant.value is True for script in case.scripts for constant in script.constants("push_to_hub"))
    return any(by_keyword) or any(True for script in case.scripts for _ in script.called(*PUSHES))


def four_bits_on_a_gpu(case: Case) -> Check:
    """A base in four bits has a GPU to calculate with it: no processor does."""
    name = "four_bits_on_a_gpu"
    lora = case.config.get("lora")
    if not isinstance(lora, dict) or lora.get("base") != "nf4":
        return ok(name, "the base is not in four bits")
    if case.spec.runner == "slurm" or not case.spec.flavor.startswith("cpu"):
        return ok(name, f"{case.spec.flavor} is no processor")
    what = f"lora.base nf4 (QLoRA) needs a GPU, and the job runs on {case.spec.flavor}"
    return fault(name, what, "set lora.base to 16bit, or choose a flavor with a GPU")


def time_enough(case: Case) -> Check:
    """The time-out is longer than the job is predicted to run [field fault 14]."""
    name = "time_enough"
    predicted = case.facts.predicted_seconds or 3600 * case.spec.estimate.hours
    if not predicted:
        return skipped(name, "nothing predicts how long it runs")
    given = case.spec.timeout_seconds
    told = f"it is predicted to run {predicted / 60:.0f} minutes, and is ended after {given / 60:.0f}"
    if given < predicted:
        return fault(name, told, "raise its time-out, or train on fewer rows")
    if given < HEADROOM * predicted:
        return warning(name, told, "raise its time-out")
    return ok(name, f"{given / 60:.0f} minutes for a predicted {predicted / 60:.0f}")
