"""The section of a report on the experiments: their tree, what each measured, and what each change was worth."""

from __future__ import annotations

import math
from pathlib import Path

from postgrad.answer import BASELINE
from postgrad.report import ablations
from postgrad.report.blocks import Block, Grid, Node, Paragraph, Plot, Section, Tree
from postgrad.report.evidence import Evidence, read_lines
from postgrad.report.plots import finite, loss_plot
from postgrad.units import NONE, duration, plus_minus
from shared_memory.records import REJECTED, Experiment, Job, Purpose, Verdict


def experiments(evidence: Evidence) -> Section:
    """The tree of experiments with what each measured, the ablations, and the loss curves."""
    if not evidence.experiments:
        return Section("experiments", "Experiments", (Paragraph("No experiment was run."),))
    blocks: list[Block] = [Tree(_children(evidence, BASELINE)), _experiment_grid(evidence), *ablations.blocks(evidence)]
    curves = {
        name: curve for name, experiment in evidence.experiments.items() if (curve := _loss_curve(evidence, experiment))
    }
    if curves:
        ends = "; ".join(
            f"{name} from {points[0][1]:.3f} to {points[-1][1]:.3f} in {points[-1][0]:g} steps"
            for name, points in curves.items()
        )
        blocks.append(Plot("loss", "Training loss of each experiment.", f"Training loss: {ends}", loss_plot(curves)))
    missing = [name for name in evidence.experiments if name not in curves]
    if missing:
        blocks.append(Paragraph(f"No loss curve was recorded for {', '.join(missing)}."))
    return Section("experiments", "Experiments", tuple(blocks))


def _children(evidence: Evidence, parent: str) -> tuple[Node, ...]:
    known = {BASELINE, *evidence.experiments}
    return tuple(
        _node(evidence, experiment)
        for experiment in evidence.experiments.values()
        if experiment.parent == parent or (parent == BASELINE and experiment.parent not in known)
    )


def _node(evidence: Evidence, experiment: Experiment) -> Node:
    lines = [experiment.why] if experiment.why else []
    if experiment.diagnosis is not None and experiment.verdict is Verdict.CRASH:
        lines.append(f"It crashed ({experiment.diagnosis.kind.replace('_', ' ')}): {experiment.error}")
    elif experiment.error:
        lines.append(experiment.error.replace(REJECTED, "A person refused it: ", 1))
    if len(experiment.jobs) > 1:
        lines.append(f"It took {len(experiment.jobs)} attempts to train; see “Failures and recoveries”.")
    return Node(
        title=experiment.id,
        branch=experiment.branch.value,
        mark=standing(evidence, experiment),
        score=_selection_score(evidence, experiment),
        change=experiment.change,
        lines=tuple(lines),
        children=_children(evidence, experiment.id),
    )


def standing(evidence: Evidence, experiment: Experiment) -> str:
    """One word for what became of an experiment."""
    if experiment.id == evidence.champion:
        return "champion"
    if experiment.error.startswith(REJECTED):
        return "rejected"
    return experiment.verdict.value if experiment.verdict else experiment.status


def _selection_score(evidence: Evidence, experiment: Experiment) -> str:
    result = evidence.selection_result(experiment.id)
    return plus_minus(result.score, result.stderr, result.unit) if result else NONE


def _experiment_grid(evidence: Evidence) -> Grid:
    rows = []
    for name, experiment in evidence.experiments.items():
        train = experiment.train
        rows.append(
            (
                name,
                experiment.branch.value,
                standing(evidence, experiment),
                _selection_score(evidence, experiment),
                _number(train.get("train_loss"), ".3f"),
                _number(train.get("tokens_per_second"), ",.0f"),
                _number(train.get("peak_memory_gib"), ".2f"),
                duration(train["seconds"]) if "seconds" in train else NONE,
            )
        )
    head = (
        "experiment",
        "branch",
        "verdict",
        "selection score",
        "training loss",
        "tokens/s",
        "peak GiB",
        "training time",
    )
    return Grid("What each experiment measured", head, tuple(rows), (3, 4, 5, 6, 7))


def _loss_curve(evidence: Evidence, experiment: Experiment) -> list[tuple[float, float]]:
    """(step, loss) from the latest training job of an experiment that logged any."""
    for job in reversed(training_jobs(evidence, experiment)):
        folder = Path(job.folder) if job.folder else evidence.paths.job(job.key)
        points = [
            (float(line["step"]), float(line["loss"]))
            for line in read_lines(folder / "out" / "metrics.jsonl")
            if isinstance(line.get("step"), int | float) and isinstance(line.get("loss"), int | float)
        ]
        if finite(points):
            return finite(points)
    return []


def training_jobs(evidence: Evidence, experiment: Experiment) -> list[Job]:
    """Oldest first."""
    return [
        job for job in evidence.jobs.values() if job.purpose is Purpose.TRAINING and job.experiment == experiment.id
    ]


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) and math.isfinite(value) else NONE
