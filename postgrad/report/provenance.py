"""The sections of a report by which anyone can check it: recipe, data, and how to do it again."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agents.jobs.hardware import installed_packages
from postgrad.report.accounts import titles_of
from postgrad.report.blocks import Block, Bullets, Code, Facts, Grid, Paragraph, Section
from postgrad.report.evidence import Evidence
from postgrad.units import NONE, RUN_IN, one_line, percent, plus_minus
from shared_memory.recipes import Recipe, numbers_of_the_method, title_of
from shared_memory.records import DatasetRecord, Job, JobSpec


def recipe(evidence: Evidence) -> Section:
    """The recipes with reason and source, and the findings they rest on."""
    if not evidence.recipes and not evidence.experiments:
        return Section("recipe", "Recipe and findings", (Paragraph("No recipe was chosen."),))
    blocks: list[Block] = []
    for entry in evidence.recipes.values():
        blocks.append(
            Facts(
                (
                    ("Recipe", f"{entry.id}: {settings_of(entry)}"),
                    ("Reason", entry.reason or NONE),
                    ("Source", entry.source or NONE),
                )
            )
        )
    used = tuple((experiment.id, settings_of(experiment.recipe)) for experiment in evidence.experiments.values())
    if used:
        blocks.append(Grid("The recipe as each experiment ran it", ("experiment", "settings"), used))
    found = tuple((entry.id, entry.claim, entry.source, entry.confidence) for entry in evidence.findings.values())
    if found:
        blocks.append(Grid("Findings, with their sources", ("id", "finding", "source", "confidence"), found))
    return Section("recipe", "Recipe and findings", tuple(blocks))


def settings_of(entry: Recipe) -> str:
    """Every number of a recipe in one line."""
    lora = entry.lora
    what = f"LoRA r{lora.r} α{lora.alpha} dropout {lora.dropout:g} on {lora.target_modules}" if lora else "all weights"
    return (
        f"{title_of(entry.method)}, {what}; learning rate {entry.learning_rate:g} "
        f"({entry.lr_scheduler}, warm-up {entry.warmup_ratio:g}); "
        f"{entry.epochs} epoch{'s' if entry.epochs > 1 else ''} in all; "
        f"batch {entry.batch} in micro-batches of {entry.micro_batch}; "
        f"at most {entry.max_length} tokens a row; {entry.precision} precision"
        + "".join(
            f"; {name.replace('_', ' ')} {_written(value)}" for name, value in numbers_of_the_method(entry).items()
        )
    )


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, list) else str(value)


def data(evidence: Evidence) -> Section:
    """Training data with its provenance: every step, what it let through, and the overlap with the benchmarks."""
    if not evidence.datasets:
        return Section("data", "Training data", (Paragraph("No training data was made."),))
    blocks: list[Block] = []
    for entry in evidence.datasets.values():
        blocks += _dataset_blocks(entry, bool(evidence.held_out))
    if scripts := tuple(dict.fromkeys(_generators(evidence))):
        blocks.append(Facts(scripts))
    if evidence.published:
        blocks.append(Facts(tuple(("Published", where_published(entry)) for entry in evidence.published.values())))
    return Section("data", "Training data", tuple(blocks))


def where_published(published: Mapping[str, Any]) -> str:
    """The address of a publication, with its commit."""
    revision = f" at {published['revision']}" if published["revision"] else ""
    return f"{published['url']}{revision}{', private' if published['private'] else ''}"


def _generators(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Each script that wrote rows, and what it was kept apart by; each language model that did, and who checked it."""
    specs = [JobSpec.model_validate(plain["spec"]) for plain in evidence.pinned.values()]
    for spec in specs:
        if spec.sandbox:
            yield f"{spec.script} was run", RUN_IN[spec.sandbox]
        if spec.runner == "teacher":
            at = "a hosted model" if spec.flavor == "hosted" else "on this machine or network"
            yield f"{spec.config['teacher']} wrote rows", f"{at}; how they were checked: {spec.config['verify']}"


def _dataset_blocks(entry: DatasetRecord, held_out: bool) -> Iterator[Block]:
    unchecked = "held-out rows went with their near-duplicates" if held_out else "not checked against any benchmark"
    overlap = ", ".join(f"{name}: {percent(share)} of its items" for name, share in entry.contamination.items())
    yield Facts(
        (
            ("Data set", f"{entry.id}, {entry.rows:,} rows"),
            ("Made from", entry.source + (f" at {entry.revision}" if entry.revision else "")),
            ("Licence", entry.licence or "not stated"),
            ("Overlap found and removed", overlap or unchecked),
            ("File", entry.path),
            ("sha256", entry.digest),
        )
    )
    if entry.steps:
        rows = tuple((step.name, f"{step.rows_in:,}", f"{step.rows_out:,}", step.note or NONE) for step in entry.steps)
        yield Grid(f"How {entry.id} was made", ("step", "rows in", "rows out", "note"), rows, (1, 2))
    if entry.findings:
        yield Bullets(entry.findings)


def reproduction(evidence: Evidence) -> Section | None:
    """Of a run that does another's champion again: whether the two agree, and by which rule. None for any other."""
    told = evidence.reproduction
    if not told:
        return None
    blocks: list[Block] = [Paragraph(again(evidence))]
    if "rule" in told:
        scores = (
            plus_minus(told[name]["score"], told[name]["stderr"], told[name]["unit"]) for name in ("original", "again")
        )
        losses = (
            f"{name}: {' → '.join('none' if loss is None else f'{loss:.4f}' for loss in pair.values())}"
            for name, pair in told["training_loss"].items()
        )
        packages = (f"{name} {' → '.join(map(str, pair))}" for name, pair in told["packages"].items())
        rows = (
            ("Benchmark", f"{told['benchmark']}, report items"),
            ("Score, then → now", " → ".join(scores)),
            ("Items that score as before", percent(told["items_equal"])),
            ("Training loss, then → now", ", ".join(losses)),
            ("Packages that differ", ", ".join(packages) or "none"),
            ("Rule", told["rule"]),
        )
        blocks.append(Facts(rows))
    return Section("reproduction", "Reproduction", tuple(blocks))


def again(evidence: Evidence) -> str:
    """What a reproduction has come to, in one sentence; empty for any other run."""
    told = evidence.reproduction
    if not told:
        return ""
    verdict = f"it {told['verdict']}: {told['reason']}" if "verdict" in told else "it has not come to an answer"
    return f"This run does the champion of {told['of']} again, from its pinned records, and {verdict}."


def reproduce(evidence: Evidence) -> Section:
    """The commands, seeds, versions and digests that give this result again."""
    commands = [
        "# the champion again, from its pinned records, and whether it agrees",
        f"postgrad reproduce {evidence.row.run_id}",
        "",
        "# the whole run again: the search may take another path",
        f"postgrad run {shlex.quote(str(evidence.paths.goal))}",
    ]
    by_hand = list(_by_hand(evidence))
    if by_hand:
        commands += [
            "",
            "# any job by hand: copy its folder first, for it writes to out/",
            f"cd {shlex.quote(str(evidence.paths.jobs))}",
            *by_hand,
        ]
    digests = {result.settings_digest: f"{result.benchmark}" for result in evidence.results.values()}
    seeds = sorted({result.seed for result in evidence.results.values()} | {evidence.goal.run.seed})
    pinned = [plain["packages"] for plain in evidence.pinned.values()]
    packages = {name: number for found in pinned for name, number in found.items()} or installed_packages()
    rows = [
        ("Seed", ", ".join(map(str, seeds))),
        *((f"Evaluation settings, {name}", digest) for digest, name in digests.items()),
        *((f"Training data, {entry.id}", entry.digest) for entry in evidence.datasets.values()),
        ("Platform", f"{platform.system()} {platform.machine()}"),
        ("Packages", ", ".join(f"{name} {number}" for name, number in packages.items())),
    ]
    came_to = tuple(f"{run_id}: {told['verdict']}; {told['reason']}" for run_id, told in evidence.reproduced.items())
    done = (Paragraph("The champion has been done again since:"), Bullets(came_to)) if came_to else ()
    return Section("reproduce", "How to do it again", (Code("\n".join(commands)), *done, Facts(tuple(rows))))


def _by_hand(evidence: Evidence) -> Iterator[str]:
    """A command for every job whose folder is there, from the folder of all jobs."""
    titles = titles_of(evidence)
    for job in evidence.jobs.values():
        script = _script(evidence, job)
        if script is not None:
            yield f"# {one_line(titles.get(job.spec_digest, job.purpose.value))}"
            yield f"(cd {script.parent.name} && python {shlex.quote(script.name)} --config config.json)"


def _script(evidence: Evidence, job: Job) -> Path | None:
    """The script in a job's folder; None where the folder is gone or holds several."""
    folder = Path(job.folder) if job.folder else evidence.paths.job(job.key)
    scripts = sorted(folder.glob("*.py"))
    return scripts[0] if len(scripts) == 1 else None
