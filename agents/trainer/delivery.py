"""The model that is handed over: merged weights and adapter in one folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from agents.base_model import TOKENIZER_FILES, BaseModel
from agents.trainer.footprint import GIB, RUNTIME_GIB
from shared_memory.errors import PostgradError
from shared_memory.goal import Goal
from shared_memory.records import Estimate, Experiment, Job, JobSpec, JobState, Purpose
from shared_memory.run_paths import RunPaths

SCRIPT = Path(__file__).parent / "scripts" / "merge.py"
SIBLINGS = (SCRIPT.with_name("merge_adapters.py"), SCRIPT.with_name("merge_models.py"))
"""What the script imports."""
TIMEOUT_SECONDS = 2 * 3600
"""Of a merge of one checkpoint."""


def merge_job(experiment: Experiment, model: BaseModel, paths: RunPaths, *, last: int = 1) -> JobSpec:
    """The job that merges an experiment's adapter into the base model, or the mean of its `last` checkpoints.

    Of adapters the mean takes room on the disk for each checkpoint as a whole model in float32.
    """
    config: dict[str, Any] = {"method": "adapter", "model": model.folder, "revision": None, "dtype": "auto"}
    config |= {"adapter": experiment.model}
    title = f"merge {experiment.id}'s adapter into the base model"
    if last > 1:
        config = {**config, "method": "soup", "checkpoints": str(Path(experiment.model).parent), "last": last}
        del config["adapter"]
        title = f"average the last {last} checkpoints of {experiment.id}"
    return JobSpec(
        purpose=Purpose.MERGE,
        experiment=experiment.id,
        title=title,
        script=SCRIPT.name,
        files={file.name: paths.store(file) for file in (SCRIPT, *SIBLINGS)},
        config=config,
        timeout_seconds=TIMEOUT_SECONDS * last,
        estimate=merge_estimate(model, last),
    )


def merge_estimate(model: BaseModel, last: int = 1) -> Estimate:
    """What it takes, for each of `last` checkpoints."""
    return Estimate(
        hours=round(last * (20 + model.parameters / 1e8) / 3600, 4),
        usd_micro=0,
        memory_gib=round(RUNTIME_GIB + 8 * model.parameters / GIB, 2),
        basis="reading and writing the weights once",
    )


def fault_of_output(job: Job) -> str:
    """Why a merge that says it succeeded did not: there is no model. Empty if there is."""
    folder = Path(job.folder).resolve()
    model = job.result.get("model")
    if not isinstance(model, str) or not (folder / model).resolve().is_relative_to(folder / "out"):
        return "its result names no `model` folder under out/"
    return "" if (folder / model / "config.json").exists() else f"{model} holds no model"


def hand_over(experiment: Experiment, merge: Job | None, goal: Goal, model: BaseModel, paths: RunPaths) -> Path:
    """Lay out `<run>/model` and return the folder to load: `merged` where there is one, else `adapter`.

    Safe to repeat; what another experiment left there goes. The tokenizer's files are the base's own, byte for byte.
    Raises PostgradError where the experiment's model is no folder of a job of this run.
    """
    trained = Path(experiment.model).resolve()
    if not experiment.model or not trained.is_dir() or paths.jobs.resolve() not in trained.parents:
        found = experiment.model or "none is on record"
        raise PostgradError(f"{experiment.id} has no model in {paths.jobs} to hand over ({found}); run the goal again")
    sources = {"adapter" if experiment.adapter else "merged": trained}
    if experiment.adapter and merge is not None and merge.state is JobState.SUCCEEDED:
        sources = sources if "adapter" in goal.output.save else {}
        sources["merged"] = Path(merge.folder) / str(merge.result["model"])
    for name, source in sources.items():
        _replace_folder(source, paths.model / name, model)
    for name in {"merged", "adapter"} - sources.keys():
        shutil.rmtree(paths.model / name, ignore_errors=True)
    return paths.model / ("merged" if "merged" in sources else "adapter")


def _replace_folder(source: Path, target: Path, model: BaseModel) -> None:
    """Put a copy of `source` at `target`, hard-linked where that works: big weights take no room twice."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, temporary, copy_function=link_or_copy)
    for name in TOKENIZER_FILES:
        original = Path(model.folder) / name
        (temporary / name).unlink(missing_ok=True)
        if original.exists():
            shutil.copyfile(original, temporary / name)
    _name_the_base(temporary / "adapter_config.json", model)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def _name_the_base(config: Path, model: BaseModel) -> None:
    """In an adapter that was trained elsewhere, the base's folder here for the one that it had there."""
    read = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    named = read.get("base_model_name_or_path")
    if isinstance(named, str) and Path(named).is_absolute() and named != model.folder:
        config.unlink()  # the job's own file stays as it is
        text = json.dumps({**read, "base_model_name_or_path": model.folder}, indent=2)
        config.write_text(f"{text}\n", encoding="utf-8")


def link_or_copy(source: str, target: str) -> str:
    """A copy that takes no room where a hard link works; the arguments and answer of shutil.copy2."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
    return target
