"""What training a model would take: memory, hardware, batch, time and price; before there is a goal, or any GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared_memory.errors import BadInput, Unavailable
from shared_memory.recipes import METHODS, Recipe, numbers_of

if TYPE_CHECKING:
    from agents.base_model import BaseModel
    from agents.jobs.flavors import Flavors
    from agents.trainer.planner import Data, Fit, TrainingPlan

Files = str | Path | Sequence[str | Path]
Runner = Literal["local", "hf", "slurm"]
ELSEWHERE = 3
"""Flavors of HF Jobs that a plan for this machine tells of."""
EXACT = Path(__file__).parents[1] / "agents" / "trainer" / "scripts" / "exact_memory.py"
EXACT_SECONDS = 900
"""Within which the exact figure has to be there."""


def plan(
    model: str | Path,
    method: str = "auto",
    data: Files | None = None,
    *,
    revision: str = "",
    on: Runner = "local",
    exact: bool = False,
) -> dict[str, Any]:
    """What training a model would take, from its config.json; the JSON of `postgrad plan --json`.

    `{model, parameters, recipe, memory {weights, master, gradients, optimizer, activations, logits, overhead, peak}
    (GiB), hardware {name, count, vram_gib, usd_per_hour}, batch {per_device, accumulation, effective},
    activation_checkpointing, hours, usd, timeout_hours, alternatives [{name, count, vram_gib, usd_per_hour, batch,
    activation_checkpointing, peak, hours, usd, why_not}], prices, warnings}`, and with `exact` also `exact {parts,
    peak}` (GiB): what the real trainer holds in one step of this batch, without the libraries' overhead.

    The recipe is the one that a run would try first (`auto`: by DPO where the data are preference pairs, else by SFT).
    `on` says where to look for hardware: here, on HF Jobs by its live prices, or on this machine's Slurm cluster. The
    cheapest that fits with head-room is taken. `hours` and `usd` are None without data. A processor stands among the
    hardware with its cores as `count` and the machine's memory as `vram_gib`.

    Raises BadInput for a model or data that cannot be used, and where there is no recipe for the method; Unavailable
    for `exact` without the training libraries.
    """
    from agents.trainer.planner import Known, plan_training
    from agents.trainer.throughput import matrix_gflops

    warnings: list[str] = []
    described = _described(str(model), revision, warnings)
    recipe = _first_recipe(_method(method, data), described)
    offered = _offered(on)
    known = Known(gflops=matrix_gflops() if data is not None and on == "local" else 0.0)
    measured = _measured(data, recipe, warnings)
    planned = plan_training(described, recipe, flavors=offered.flavors, data=measured, known=known)
    elsewhere = list(_elsewhere(described, recipe, measured)) if on == "local" else []
    best = planned.best
    told: dict[str, Any] = {
        "model": described.name,
        "parameters": described.parameters,
        "recipe": planned.recipe.plain(),
        "memory": best.memory.parts(),
        "hardware": _hardware(best),
        "batch": _batch(best, recipe),
        "activation_checkpointing": best.activation_checkpointing,
        "hours": best.hours if measured else None,
        "usd": best.usd_micro / 1e6 if measured else None,
        "timeout_hours": round(planned.timeout_seconds / 3600, 2) if measured else None,
        "alternatives": [_alternative(fit, recipe, measured) for fit in (*planned.alternatives, *elsewhere)],
        "prices": offered.note,
        "warnings": [*warnings, *planned.warnings],
    }
    return told | ({"exact": _exact(described, planned)} if exact else {})


def _described(name: str, revision: str, warnings: list[str]) -> BaseModel:
    """The model as far as its config.json and, where they lie beside it, the headers of its weights tell."""
    from agents.base_model import BaseModel, parameters_of, read_config
    from agents.trainer.shape import shape_of

    folder, config = read_config(name, revision)
    parameters = parameters_of(folder)
    if not parameters:
        parameters = shape_of(config).parameters
        warnings.append("the weights were counted from config.json")
    return BaseModel(
        name=name, folder=str(folder), revision=revision, parameters=parameters, architecture="", config=config
    )


def _method(method: str, data: Files | None) -> str:
    """`auto` made definite by what the rows are made for. Raises BadInput for a method that there is not."""
    if method not in ("auto", *METHODS):
        raise BadInput(f"there is no method `{method}`; give auto, {', '.join(METHODS)}")
    if method != "auto":
        return method
    from agents.data_engineer.formats.tables import read_sources, trains

    return "dpo" if data is not None and "dpo" in trains(read_sources(_paths(data))) else "sft"


def _first_recipe(method: str, model: BaseModel) -> Recipe:
    """The recipe of the built-in library that a run would try first; of distillation, from a teacher of equal size."""
    from agents.brain import Brief, Move
    from agents.researcher import playbook
    from shared_memory.goal_reading import parse_goal

    teacher = {"distill_from": model.folder} if method == "distill" else {}
    goal = parse_goal({"text": "plan", "method": method, **teacher}, Path.cwd())
    return playbook.propose(Brief(goal=goal, move=Move.RESEARCH, parameters=model.parameters)).recipes[0]


def _offered(on: Runner) -> Flavors:
    from agents.jobs.flavors import Flavors, hf_flavors, local_flavors

    if on == "hf":
        return hf_flavors()
    if on == "slurm":
        from agents.jobs.slurm.partitions import slurm_flavors

        return Flavors(flavors=slurm_flavors(), source="live", note="the cluster's partitions; it charges nothing")
    if on == "local":
        return local_flavors()
    raise BadInput(f"there is no runner `{on}`; give local, hf or slurm")


def _measured(data: Files | None, recipe: Recipe, warnings: list[str]) -> Data | None:
    """The rows in tokens, told from their text's length; None without data."""
    if data is None:
        return None
    from agents.data_engineer.formats.tables import read_sources
    from agents.data_engineer.prepare import render
    from agents.trainer.planner import data_of
    from agents.trainer.throughput import CHARACTERS_PER_TOKEN

    lengths = [round(len(render(row).text) / CHARACTERS_PER_TOKEN) for row in read_sources(_paths(data))]
    found = data_of(lengths, recipe.max_length)
    warnings.append(f"the hours are those of about {found.tokens:,} tokens a pass, told from the text's length")
    return found.model_copy(update={"longest": 0})  # told too roughly to plan memory by


def _elsewhere(model: BaseModel, recipe: Recipe, data: Data | None) -> Iterator[Fit]:
    """The cheapest GPUs of HF Jobs, by the dated table: nothing is asked."""
    from agents.jobs.flavors import listed_flavors
    from agents.trainer.planner import plan_training

    with_gpus = [flavor for flavor in listed_flavors().flavors if flavor.gpus]
    planned = plan_training(model, recipe, flavors=with_gpus, data=data)
    yield from [fit for fit in (planned.best, *planned.alternatives) if not fit.why_not][:ELSEWHERE]


def _hardware(fit: Fit) -> dict[str, Any]:
    flavor = fit.flavor
    here = {"gpu": flavor.gpu, "cpu": "cpu"}
    return {
        "name": here.get(flavor.name, flavor.name),
        "count": fit.devices if flavor.gpus else flavor.cpu_cores,
        "vram_gib": flavor.room_gib,
        "usd_per_hour": flavor.usd_per_hour,
    }


def _batch(fit: Fit, recipe: Recipe) -> dict[str, int]:
    return {"per_device": fit.micro_batch, "accumulation": fit.accumulation, "effective": recipe.batch}


def _alternative(fit: Fit, recipe: Recipe, data: Data | None) -> dict[str, Any]:
    return {
        **_hardware(fit),
        "batch": _batch(fit, recipe),
        "activation_checkpointing": fit.activation_checkpointing,
        "peak": round(fit.memory.peak, 3),
        "hours": fit.hours if data else None,
        "usd": fit.usd_micro / 1e6 if data else None,
        "why_not": fit.why_not,
    }


def _exact(model: BaseModel, planned: TrainingPlan) -> dict[str, Any]:
    """One real step of the planned batch on tensors without content, in a process of its own."""
    if find_spec("trl") is None:
        raise Unavailable("--exact takes a real training step; pip install 'postgrad[train]'")
    best, recipe = planned.best, planned.recipe
    config = {
        **numbers_of(recipe),
        **planned.config,
        "model": model.folder,
        "batch": best.micro_batch * best.accumulation,
    }
    with tempfile.TemporaryDirectory(prefix="postgrad-exact-") as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        device = "gpu" if best.flavor.gpus else "cpu"
        command = [sys.executable, str(EXACT), "--config", str(path), "--device", device]
        threads = os.environ | {"OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=EXACT_SECONDS, env=threads)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"the exact figure took more than {EXACT_SECONDS} s; plan without --exact") from error
    if done.returncode == 2:
        raise BadInput(f"no exact figure: {done.stderr.strip().removeprefix('error: ')}")
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise Unavailable(f"the exact figure failed ({last}); plan without --exact")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["result"]
    return result


def _paths(data: Files) -> list[str]:
    files = [data] if isinstance(data, str | Path) else data
    return [str(Path(file).expanduser()) for file in files]
