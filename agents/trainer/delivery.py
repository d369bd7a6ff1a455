"""The model that is handed over: merged weights and adapter in one folder, with a card that says what they are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from agents.base_model import TOKENIZER_FILES, BaseModel
from agents.trainer.footprint import GIB, RUNTIME_GIB
from shared_memory.errors import PostgradError
from shared_memory.goal import Goal
from shared_memory.records import (
    ComparisonResult,
    DatasetRecord,
    Estimate,
    EvalResult,
    Experiment,
    Job,
    JobSpec,
    JobState,
    Purpose,
)
from shared_memory.redaction import redact
from shared_memory.run_paths import RunPaths, write_atomically

SCRIPT = Path(__file__).parent / "scripts" / "merge.py"


def merge_job(experiment: Experiment, model: BaseModel, paths: RunPaths) -> JobSpec:
    """The job that merges an experiment's adapter into the base model."""
    memory = RUNTIME_GIB + 8 * model.parameters / GIB
    return JobSpec(
        purpose=Purpose.MERGE,
        experiment=experiment.id,
        title=f"merge {experiment.id}'s adapter into the base model",
        script=SCRIPT.name,
        files={SCRIPT.name: paths.store(SCRIPT)},
        config={"model": model.folder, "revision": None, "adapter": experiment.model, "dtype": "auto"},
        timeout_seconds=2 * 3600,
        estimate=Estimate(
            hours=round((20 + model.parameters / 1e8) / 3600, 4),
            usd_micro=0,
            memory_gib=round(memory, 2),
            basis="reading and writing the weights once",
        ),
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
    shutil.copytree(source, temporary, copy_function=_link_or_copy)
    for name in TOKENIZER_FILES:
        original = Path(model.folder) / name
        (temporary / name).unlink(missing_ok=True)
        if original.exists():
            shutil.copyfile(original, temporary / name)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def _link_or_copy(source: str, target: str) -> str:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
    return target


def write_card(
    folder: Path,
    *,
    goal: Goal,
    model: BaseModel,
    experiment: Experiment,
    dataset: DatasetRecord | None,
    baseline: Sequence[EvalResult],
    results: Sequence[EvalResult],
    claims: Sequence[ComparisonResult],
) -> Path:
    """Write the model card (README.md with the Hub's metadata) into a delivered folder, without secrets."""
    before = {(result.benchmark, result.part): result for result in baseline}
    lines = [
        "---",
        f"base_model: {model.name if not Path(model.name).is_absolute() else Path(model.name).name}",
        "library_name: peft" if folder.name == "adapter" else "library_name: transformers",
        "tags: [postgrad]",
        "---",
        "",
        f"# {goal.text}",
        "",
        f"{experiment.recipe.method.upper()} of `{Path(model.name).name}` by postgrad; experiment {experiment.id}.",
        "",
        "| benchmark | items | base | this model |",
        "| --- | --- | --- | --- |",
    ]
    for result in results:
        base = before.get((result.benchmark, result.part))
        unit = " nats a token" if result.unit == "nats" else ""
        before_it = f"{base.score:.3f} ± {base.stderr:.3f}{unit}" if base else "—"
        score = f"{result.score:.3f} ± {result.stderr:.3f}{unit}"
        lines.append(f"| {result.benchmark} | {result.part} (n={result.n}) | {before_it} | {score} |")
    for claim in claims:
        lines += [
            "",
            f"Paired difference on the {claim.n} report items of {claim.benchmark}: {claim.delta:+.3f} "
            f"(95 % interval {claim.ci_low:+.3f} to {claim.ci_high:+.3f}"
            f"{'' if claim.higher_is_better else '; lower is better'}).",
        ]
    if dataset:
        lines += [
            "",
            f"Training data: {dataset.rows} rows from {Path(dataset.source).name}, sha256 `{dataset.digest}`.",
        ]
    lines += ["", f"Recipe: `{experiment.recipe.model_dump_json(exclude={'reason', 'source', 'findings'})}`", ""]
    write_atomically(folder / "README.md", redact("\n".join(lines)).encode())
    return folder / "README.md"
