"""An experiment's training: from a proposal to a job, and from the job to what came of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from agents.base_model import BaseModel
from agents.brain import Brief, Move
from agents.jobs.hardware import local_hardware
from agents.trainer.footprint import CHARACTERS_PER_TOKEN, timeout_seconds, training_estimate
from agents.trainer.proposal import Plan
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import (
    REJECTED,
    Branch,
    DatasetRecord,
    Diagnosis,
    Experiment,
    Job,
    JobSpec,
    JobState,
    Purpose,
    Recipe,
    Verdict,
)
from shared_memory.run_paths import RunPaths

SCRIPT = Path(__file__).parent / "scripts" / "train.py"


BRANCH_OF = {
    Move.DRAFT: Branch.DRAFT,
    Move.DEBUG: Branch.DEBUG,
    Move.IMPROVE: Branch.IMPROVE,
    Move.ABLATE: Branch.ABLATE,
}


def plan_experiments(plans: Sequence[Plan], brief: Brief) -> list[Experiment]:
    """The experiments that plans stand for, with the next free ids (`e1`, `e2`, …): as many as there is room for.

    Raises BadInput for a plan that contradicts itself: an unknown parent, or a batch that cannot be split.
    """
    first = len(brief.experiments) + 1
    return [_planned(plan, f"e{number}", brief) for number, plan in enumerate(plans[: brief.room], first)]


def _planned(plan: Plan, name: str, brief: Brief) -> Experiment:
    recipe = plan.recipe
    if plan.parent != "baseline" and plan.parent not in brief.experiments:
        raise BadInput(f"there is no experiment {plan.parent} to start from")
    if recipe.batch % recipe.micro_batch:
        raise BadInput(f"a batch of {recipe.batch} cannot be split into micro-batches of {recipe.micro_batch}")
    return Experiment(
        id=name,
        branch=BRANCH_OF[brief.move],
        parent=plan.parent,
        change=plan.change,
        why=plan.why,
        recipe=recipe,
        dataset=next(reversed(list(brief.datasets))),
        continues=plan.continues,
        adapter=recipe.lora is not None,
    )


def in_less_memory(experiment: Experiment, micro_batch: int) -> Experiment:
    """The same experiment with fewer rows on the device at once.

    Raises BadInput where that would change the batch behind a weight update, or is no less than before.
    """
    recipe = experiment.recipe
    if micro_batch >= recipe.micro_batch or recipe.batch % micro_batch:
        raise BadInput(
            f"a micro-batch of {micro_batch} is no way to save memory: it must divide {recipe.batch} "
            f"and be less than {recipe.micro_batch}"
        )
    smaller = recipe.model_copy(update={"micro_batch": micro_batch})
    return experiment.model_copy(update={"recipe": smaller, "status": "planned", "verdict": None, "error": ""})


def training_job(
    experiment: Experiment,
    *,
    parent: Experiment | None,
    dataset: DatasetRecord,
    model: BaseModel,
    goal: Goal,
    paths: RunPaths,
    measured: float | None,
    gflops: float,
) -> JobSpec:
    """The job that trains `experiment`; `measured` is the tokens/s of an earlier training job of this run, if any.

    `gflops` is the machine's matrix rate, which predicts the first one.
    """
    recipe = experiment.recipe
    done = parent.recipe.epochs if parent and experiment.continues else 0
    epochs = recipe.epochs - done
    tokens = round(Path(dataset.path).stat().st_size / CHARACTERS_PER_TOKEN)
    estimate = training_estimate(model, recipe, tokens, epochs, measured, gflops)
    config: dict[str, Any] = {
        "method": recipe.method,
        "model": model.folder,
        "revision": None,
        "adapter": parent.model if parent and experiment.continues else None,
        "data": "data.jsonl",
        "lora": recipe.lora.plain() if recipe.lora else None,
        "beta": recipe.beta,
        "learning_rate": recipe.learning_rate,
        "epochs": epochs,
        "batch": recipe.batch,
        "micro_batch": recipe.micro_batch,
        "max_length": recipe.max_length,
        "warmup_ratio": recipe.warmup_ratio,
        "lr_scheduler": recipe.lr_scheduler,
        "packing": recipe.packing,
        # Length often tells what kind a row is of: sorted by it, a model would learn one kind after another.
        "group_by_length": False,
        "activation_checkpointing": False,
        "seed": goal.run.seed,
        "report_to": list(goal.run.report_to),
        "project": paths.root.name,
        "run_name": experiment.id,
    }
    return JobSpec(
        purpose=Purpose.TRAINING,
        experiment=experiment.id,
        title=f"train {experiment.id}: {experiment.change}, on {dataset.rows} rows",
        script=SCRIPT.name,
        files={SCRIPT.name: paths.store(SCRIPT), "data.jsonl": paths.store(Path(dataset.path))},
        config=config,
        flavor=local_hardware().flavor,
        timeout_seconds=timeout_seconds(estimate, calibrated=measured is not None),
        estimate=estimate,
    )


def fault_of_output(job: Job) -> str:
    """Why a training job that says it succeeded did not: its model is not there. Empty if all is well."""
    folder = Path(job.folder).resolve()
    model = job.result.get("model")
    if not isinstance(model, str) or not (folder / model).resolve().is_relative_to(folder / "out"):
        return "its result names no `model` folder under out/"
    if not (folder / model).is_dir():
        return f"its model folder {model} does not exist"
    return ""


RECIPE_KEYS = (
    "beta", "epochs", "learning_rate", "batch", "micro_batch", "max_length", "warmup_ratio", "lr_scheduler", "packing",
    "lora",
)  # fmt: skip
"""What a training job's config has in common with its recipe."""


def fault_of_config(spec: JobSpec) -> str:
    """Why an edited training config is no recipe that can be kept on record; empty if it is one, or no training."""
    if spec.purpose is not Purpose.TRAINING:
        return ""
    try:
        Recipe.model_validate({"id": "edited", **{key: spec.config[key] for key in RECIPE_KEYS if key in spec.config}})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        return f"`{'.'.join(map(str, fault['loc']))}`: {fault['msg']}"
    return ""


def as_approved(experiment: Experiment, spec: JobSpec, *, epochs_before: int) -> Experiment:
    """The experiment with the recipe that its job was really given: a person may have edited it at the gate.

    epochs_before: passes over the data that the checkpoint it continues had seen.
    """
    planned = experiment.recipe.plain()
    given = {key: spec.config[key] for key in RECIPE_KEYS if key in spec.config}
    if "epochs" in given:
        given["epochs"] += epochs_before
    edits = {key: value for key, value in given.items() if value != planned[key]}
    words = ", ".join(f"{key} {value}" for key, value in edits.items())
    if spec.files[spec.script] != hashlib.sha256(SCRIPT.read_bytes()).hexdigest():
        words = f"{words}, {spec.script}" if words else spec.script
    if not words:
        return experiment
    recipe = Recipe.model_validate({**planned, **edits})
    change = f"{experiment.change}; edited: {words}"
    return experiment.model_copy(update={"recipe": recipe, "change": change, "adapter": recipe.lora is not None})


def stop_training(experiment: Experiment, job: Job) -> Experiment:
    """What becomes of an experiment whose run was stopped: it is still to be done, should the run go on."""
    jobs = tuple(dict.fromkeys([*experiment.jobs, job.key] if job.key else experiment.jobs))
    return experiment.model_copy(update={"status": "planned", "error": job.error, "jobs": jobs})


def finish_training(experiment: Experiment, job: Job) -> Experiment:
    """What became of an experiment: trained, or crashed with the cause."""
    jobs = tuple(dict.fromkeys([*experiment.jobs, job.key] if job.key else experiment.jobs))
    if job.state is not JobState.SUCCEEDED:
        rejected = job.error.startswith(REJECTED)
        end = {"verdict": Verdict.DISCARD} if rejected else {"verdict": Verdict.CRASH, "diagnosis": diagnose(job.error)}
        return experiment.model_copy(update={"status": "crashed", "error": job.error, "jobs": jobs, **end})
    model = Path(job.folder) / str(job.result["model"])
    return experiment.model_copy(
        update={"status": "trained", "model": str(model), "train": job.result, "jobs": jobs, "error": ""}
    )


_SIGNS: tuple[tuple[Literal["out_of_memory", "diverged", "timed_out"], str], ...] = (
    ("out_of_memory", r"out of memory|OutOfMemoryError|MemoryError|CUBLAS_STATUS_ALLOC_FAILED"),
    ("diverged", r"loss is (?:nan|inf)|FloatingPointError|non-finite"),
    ("timed_out", r"timed out after"),
)
"""Kind of failure → the words that tell it, the surest first."""


def diagnose(error: str) -> Diagnosis:
    """What a job's last words say about its failure."""
    kinds = (kind for kind, words in _SIGNS if re.search(words, error, re.IGNORECASE))
    return Diagnosis(kind=next(kinds, "unknown"), evidence=error)


def measured_rate(experiments: Iterable[Experiment]) -> float | None:
    """Tokens per second of the latest training of this run, None before the first."""
    rates = [float(e.train["tokens_per_second"]) for e in experiments if e.train.get("tokens_per_second")]
    return rates[-1] if rates else None
