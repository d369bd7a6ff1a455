"""An experiment's training: from a proposal to a job, and from the job to what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agents.base_model import BaseModel, parameters_of, read_config
from agents.brain import Brief, Move
from agents.jobs.flavors import Flavors
from agents.programs import WRITTEN
from agents.trainer.methods import SCRIPT_FILES, SCRIPTS
from agents.trainer.planner import Data, Known, Limits, TrainingPlan, data_of, plan_training, updates_of
from agents.trainer.proposal import Plan
from agents.trainer.shape import shape_of
from agents.trainer.throughput import CHARACTERS_PER_TOKEN
from shared_memory.ablations import Variant
from shared_memory.errors import BadInput, PostgradError
from shared_memory.goal import Goal
from shared_memory.recipes import RECIPES, DistillRecipe, Recipe, numbers_of, recipe_of
from shared_memory.records import (
    FREE_OF_SCOPE,
    REJECTED,
    Branch,
    DatasetRecord,
    Diagnosis,
    Experiment,
    Job,
    JobSpec,
    JobState,
    Purpose,
    Verdict,
)
from shared_memory.run_paths import RunPaths

SCRIPT = SCRIPTS / SCRIPT_FILES[0]
CHECKPOINT_HOURS = 0.25
"""Of training between two checkpoints: what a lost machine may cost."""


BRANCH_OF = {
    Move.DRAFT: Branch.DRAFT,
    Move.DEBUG: Branch.DEBUG,
    Move.IMPROVE: Branch.IMPROVE,
    Move.ABLATE: Branch.ABLATE,
}


def plan_experiments(plans: Sequence[Plan], brief: Brief, paths: RunPaths) -> list[Experiment]:
    """The experiments that plans stand for, with the next free ids (`e1`, `e2`, …): as many as there is room for.

    A script that a model wrote is kept in the run's file store, and trains the children of its experiment, too. Raises
    BadInput for a plan that contradicts itself: an unknown parent, or a batch that cannot be split.
    """
    first = len(brief.experiments) + 1
    return [_planned(plan, f"e{number}", brief, paths) for number, plan in enumerate(plans[: brief.room], first)]


def _planned(plan: Plan, name: str, brief: Brief, paths: RunPaths) -> Experiment:
    recipe = plan.recipe
    if plan.parent != "baseline" and plan.parent not in brief.experiments:
        raise BadInput(f"there is no experiment {plan.parent} to start from")
    if recipe.batch % recipe.micro_batch:
        raise BadInput(f"a batch of {recipe.batch} cannot be split into micro-batches of {recipe.micro_batch}")
    parent = brief.experiments.get(plan.parent)
    inherited = parent.script if parent else ""
    return Experiment(
        id=name,
        branch=BRANCH_OF[brief.move],
        parent=plan.parent,
        change=plan.change,
        why=plan.why,
        recipe=recipe,
        dataset=brief.data_for(plan.parent),
        continues=plan.continues,
        script=paths.store(plan.script.encode()) if plan.script else inherited,
        adapter=recipe.lora is not None,
    )


def ablated(reference: Experiment, variant: Variant, *, name: str, dataset: str) -> Experiment:
    """The experiment that a variant of another one is, trained from the base model.

    dataset: id of the data, without what the variant leaves out. Raises BadInput where its numbers are no recipe.
    """
    try:
        recipe = recipe_of({**reference.recipe.plain(), **variant.numbers})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise BadInput(f"{variant.change}: {fault['msg']}") from error
    return Experiment(
        id=name,
        branch=Branch.ABLATE,
        parent=reference.id,
        change=f"{reference.id} {variant.change}",
        why=f"how much does {reference.id} owe to it?" if variant.seed is None else "how much does chance alone move?",
        recipe=recipe,
        dataset=dataset,
        seed=variant.seed,
        script=reference.script,
        adapter=recipe.lora is not None,
    )


def training_job(
    experiment: Experiment,
    *,
    parent: Experiment | None,
    dataset: DatasetRecord,
    model: BaseModel,
    goal: Goal,
    paths: RunPaths,
    flavors: Flavors,
    usd_left: float,
    measured: float | None,
    gflops: float,
) -> JobSpec:
    """The job that trains `experiment`; `measured` is the tokens/s of an earlier training job of this run, if any.

    flavors: what the job can have. usd_left: what the run may still spend on it, where that costs money. gflops: the
    machine's matrix rate, which predicts the first one.
    """
    recipe = experiment.recipe
    done = parent.recipe.epochs if parent and experiment.continues else 0
    epochs = recipe.epochs - done
    data = rows_of(dataset, recipe.max_length)
    known = Known(tokens_per_second=measured, gflops=gflops, teacher=_weights_of_teacher(recipe))
    planned = plan_for(goal, model, recipe, flavors, data, known, usd_left=usd_left, epochs=epochs)
    script, files = _files(goal, experiment, dataset, paths)
    custom = bool(goal.run.script or experiment.script)
    config: dict[str, Any] = {
        **numbers_of(recipe),
        "model": model.folder,
        "revision": None,
        "adapter": parent.model if parent and experiment.continues else None,
        "data": "data.jsonl",
        "epochs": epochs,
        # Each update still learns from a random batch; only its split into micro-batches goes by length.
        "group_by_length": not getattr(recipe, "packing", False),
        **planned.config,
        "resume_from": None,
        "save_steps": _steps_between_checkpoints(planned, updates_of(recipe, data, epochs)),
        "seed": goal.run.seed if experiment.seed is None else experiment.seed,
        "report_to": list(goal.run.report_to),
        "project": paths.root.name,
        "run_name": experiment.id,
    }
    return JobSpec(
        purpose=Purpose.TRAINING,
        experiment=experiment.id,
        title=f"train {experiment.id}: {experiment.change}, on {dataset.rows} rows",
        script=script,
        files=files,
        config=config,
        flavor=planned.best.flavor.name,
        devices=planned.best.devices,
        custom=custom,
        # What a model wrote runs in a sandbox or nowhere, whatever the goal allows scripts of a person's own.
        sandbox="auto" if experiment.script else goal.run.sandbox if custom and goal.run.on == "local" else "",
        timeout_seconds=planned.timeout_seconds,
        estimate=planned.estimate,
    )


def plan_for(
    goal: Goal,
    model: BaseModel,
    recipe: Recipe,
    flavors: Flavors,
    data: Data,
    known: Known,
    *,
    usd_left: float,
    epochs: int | None = None,
) -> TrainingPlan:
    """How a recipe is trained on what the goal allows: its flavor where it names one, its hours, and the dollars left.

    Raises BadInput for a flavor that there is not.
    """
    return plan_training(
        model,
        recipe,
        flavors=[flavors.named(goal.run.flavor)] if goal.run.flavor else flavors.flavors,
        data=data,
        epochs=epochs,
        known=known,
        limits=Limits(hours=goal.limits.hours, usd=usd_left if goal.run.on == "hf" else None),
    )


def _files(goal: Goal, experiment: Experiment, dataset: DatasetRecord, paths: RunPaths) -> tuple[str, dict[str, str]]:
    """The script of an experiment by name, and name in the job folder → digest: the script, what ours or a model's
    imports from beside it, and the data."""
    if experiment.script:
        script, beside = WRITTEN, {WRITTEN: experiment.script}
    else:
        own = Path(goal.run.script) if goal.run.script else SCRIPT
        script, beside = own.name, {own.name: paths.store(own)}
    if experiment.script or not goal.run.script:
        siblings = (SCRIPT.with_name(name) for name in SCRIPT_FILES[1:])
        beside |= {file.name: paths.store(file) for file in siblings if file.exists()}
    return script, beside | {"data.jsonl": paths.store(Path(dataset.path))}


def _steps_between_checkpoints(plan: TrainingPlan, updates: int) -> int | None:
    """Weight updates in CHECKPOINT_HOURS, as predicted; None for a job that is over before a second checkpoint."""
    if plan.best.hours < 2 * CHECKPOINT_HOURS:
        return None
    return max(1, round(updates * CHECKPOINT_HOURS / plan.best.hours))


def _weights_of_teacher(recipe: Recipe) -> int:
    """Of a distillation's teacher, as its folder or its config tells; 0 where neither can be had."""
    if isinstance(recipe, DistillRecipe):
        with suppress(PostgradError):
            folder, config = read_config(recipe.teacher, "")
            return parameters_of(folder) or shape_of(config).parameters
    return 0


def rows_of(dataset: DatasetRecord, max_length: int) -> Data:
    """What a plan needs to know of the rows, from their lengths in characters."""
    with Path(dataset.path).open("rb") as lines:
        return data_of([round(len(line) / CHARACTERS_PER_TOKEN) for line in lines], max_length)


def fault_of_output(job: Job) -> str:
    """Why a training job that says it succeeded did not: its model is not there. Empty if all is well."""
    folder = Path(job.folder).resolve()
    model = job.result.get("model")
    if not isinstance(model, str) or not (folder / model).resolve().is_relative_to(folder / "out"):
        return "its result names no `model` folder under out/"
    if not (folder / model).is_dir():
        return f"its model folder {model} does not exist"
    return ""


def fault_of_config(spec: JobSpec) -> str:
    """Why an edited training config is no recipe that can be kept on record; empty if it is one, or no training."""
    if spec.purpose is not Purpose.TRAINING:
        return ""
    try:
        recipe_of({"id": "edited", **_numbers_in(spec.config)})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        return f"`{'.'.join(map(str, fault['loc']))}`: {fault['msg']}"
    return ""


def _numbers_in(config: dict[str, Any]) -> dict[str, Any]:
    """What a training job's config has in common with its recipe."""
    fields = RECIPES[config["method"]].model_fields if config.get("method") in RECIPES else {}
    return {key: value for key, value in config.items() if key in fields}


def as_approved(experiment: Experiment, spec: JobSpec, *, script: str, epochs_before: int) -> Experiment:
    """The experiment with the recipe that its job was really given: a person may have edited it at the gate.

    script: the goal's own, empty for ours. epochs_before: passes over the data that the checkpoint it goes on from has
    seen.
    """
    planned = experiment.recipe.plain()
    given = _numbers_in(spec.config)
    if "epochs" in given:
        given["epochs"] += epochs_before
    edits = {key: value for key, value in given.items() if value != planned.get(key)}
    words = ", ".join(f"{key} {value}" for key, value in edits.items() if key not in FREE_OF_SCOPE)
    planned_script = Path(script or SCRIPT)
    on_disk = planned_script.exists() and hashlib.sha256(planned_script.read_bytes()).hexdigest()
    same = experiment.script or on_disk
    if same and spec.files[spec.script] != same:
        words = f"{words}, {spec.script}" if words else spec.script
    if not edits and not words:
        return experiment
    recipe = recipe_of({**planned, **edits})
    change = f"{experiment.change}; edited: {words}" if words else experiment.change
    changed = {"recipe": recipe, "change": change, "adapter": recipe.lora is not None}
    if experiment.script:  # its children are trained by what was approved
        changed["script"] = spec.files[spec.script]
    return experiment.model_copy(update=changed)


def stop_training(experiment: Experiment, job: Job) -> Experiment:
    """What becomes of an experiment whose run was stopped: it is still to be done, should the run go on."""
    jobs = tuple(dict.fromkeys([*experiment.jobs, job.key] if job.key else experiment.jobs))
    return experiment.model_copy(update={"status": "planned", "error": job.error, "jobs": jobs})


def finish_training(experiment: Experiment, job: Job, diagnosis: Diagnosis | None = None) -> Experiment:
    """What became of an experiment: trained, or crashed with the cause."""
    jobs = tuple(dict.fromkeys([*experiment.jobs, job.key] if job.key else experiment.jobs))
    if job.state is not JobState.SUCCEEDED:
        rejected = job.error.startswith(REJECTED)
        end = {"verdict": Verdict.DISCARD} if rejected else {"verdict": Verdict.CRASH, "diagnosis": diagnosis}
        return experiment.model_copy(update={"status": "crashed", "error": job.error, "jobs": jobs, **end})
    model = Path(job.folder) / str(job.result["model"])
    return experiment.model_copy(
        update={"status": "trained", "model": str(model), "train": job.result, "jobs": jobs, "error": ""}
    )


def measured_rate(experiments: Iterable[Experiment]) -> float | None:
    """Tokens per second of the latest training of this run, None before the first."""
    rates = [float(e.train["tokens_per_second"]) for e in experiments if e.train.get("tokens_per_second")]
    return rates[-1] if rates else None
