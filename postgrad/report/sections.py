"""The sections of a report that say what came out: question, scores, families, experiments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from postgrad.answer import BASELINE
from postgrad.report.blocks import Block, Bullets, Facts, Grid, Node, Paragraph, Plot, Section, Tree
from postgrad.report.evidence import Evidence, read_lines
from postgrad.report.plots import Bar, finite, loss_plot, score_plot
from postgrad.units import NONE, dollars, duration, p_value, percent, plus_minus, signed
from shared_memory.records import Experiment, Job, JobState, Part, Purpose


def question(evidence: Evidence) -> Section:
    """What was asked for, and within which limits."""
    goal, limits = evidence.goal, evidence.goal.limits
    model = goal.base_model or NONE
    if evidence.base_model.get("parameters"):
        model += f" ({_count(evidence.base_model['parameters'])} parameters)"
    revision = evidence.base_model.get("revision") or goal.revision
    targets = [
        f"{entry.id}{f' (target {percent(entry.target)})' if entry.target is not None else ''}"
        for entry in goal.benchmark
    ]
    rows = [
        ("Base model", model),
        ("Revision", revision or "none: a folder"),
        ("Benchmark", ", ".join(targets) or NONE),
        ("Method", goal.method),
        ("Given data", ", ".join(goal.data.train) or "none"),
        (
            "Limits",
            f"{dollars(limits.usd)}, {limits.hours:g} h, {limits.jobs} jobs, {limits.experiments} experiments, "
            f"{limits.llm_tokens:,} LLM tokens",
        ),
    ]
    if limits.deadline is not None:
        rows.append(("Deadline", limits.deadline.isoformat()))
    return Section("question", "The question", (Paragraph(goal.text), Facts(tuple(rows))))


def scores(evidence: Evidence) -> Section:
    """Baseline against champion, part by part, and the one paired comparison."""
    blocks: list[Block] = []
    for name in evidence.benchmarks:
        blocks.append(_score_grid(evidence, name))
        claim = evidence.comparisons.get(name)
        if claim is not None:
            blocks.append(
                Paragraph(
                    f"Paired difference of {claim.experiment} and the base model "
                    f"on the same {claim.n} report items of {name}: "
                    f"{signed(claim.delta)} points, 95 % interval {signed(claim.ci_low)} to {signed(claim.ci_high)}, "
                    f"{p_value(claim.p_value)}. "
                    + (
                        "The interval lies above 0."
                        if claim.win
                        else "The interval does not lie above 0: this proves no gain."
                    )
                )
            )
    if not blocks:
        return Section("scores", "Baseline against champion", (Paragraph("Nothing has been scored."),))
    bars = list(_bars(evidence))
    if bars:
        alt = "; ".join(f"{bar.label} on {bar.group}: {percent(bar.score)} ± {100 * bar.stderr:.1f}" for bar in bars)
        caption = (
            f"Scores on {evidence.benchmarks[0]} with 95 % intervals. "
            "The selection items steered the search; the report items only report."
        )
        blocks.append(Plot("score", caption, alt, score_plot(bars)))
    blocks.append(
        Paragraph(
            "± is one standard error. “Answered” is the share of items with an answer in the asked form, "
            "“given answered” the accuracy on those, “truncated” the share whose output met the token limit."
        )
    )
    return Section("scores", "Baseline against champion", tuple(blocks))


def _score_grid(evidence: Evidence, benchmark: str) -> Grid:
    rows = []
    for part in (Part.REPORT, Part.SELECTION):
        for model in dict.fromkeys((BASELINE, evidence.champion or BASELINE)):
            result = evidence.result(model, benchmark, part)
            if result is not None:
                given = percent(result.accuracy_given_answered) if result.answered else NONE
                rows.append(
                    (
                        model,
                        part.value,
                        plus_minus(result.score, result.stderr),
                        str(result.n),
                        percent(result.answered),
                        given,
                        percent(result.truncated),
                        str(result.epochs),
                    )
                )
    head = ("model", "items", "score", "n", "answered", "given answered", "truncated", "K")
    return Grid(
        f"{benchmark}: scores by part (K: answers sampled per item)", head, tuple(rows), tuple(range(2, len(head)))
    )


def _bars(evidence: Evidence) -> Iterator[Bar]:
    name = evidence.benchmarks[0]
    for part in (Part.SELECTION, Part.REPORT):
        for model in (BASELINE, *evidence.experiments):
            result = evidence.result(model, name, part)
            if result is not None:
                yield Bar(model, result.score, result.stderr, part.value)


def experiments(evidence: Evidence) -> Section:
    """The tree of experiments with what each measured, and the loss curves."""
    if not evidence.experiments:
        return Section("experiments", "Experiments", (Paragraph("No experiment was run."),))
    blocks: list[Block] = [Tree(_children(evidence, BASELINE)), _experiment_grid(evidence)]
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
        Node(
            title=f"{experiment.id}: {experiment.change}",
            text=experiment.why,
            mark=("champion" if name == evidence.champion else "") or experiment.verdict or experiment.status,
            children=_children(evidence, name),
        )
        for name, experiment in evidence.experiments.items()
        if experiment.parent == parent or (parent == BASELINE and experiment.parent not in known)
    )


def _experiment_grid(evidence: Evidence) -> Grid:
    rows = []
    for name, experiment in evidence.experiments.items():
        result = evidence.result(name, evidence.benchmarks[0], Part.SELECTION) if evidence.benchmarks else None
        train = experiment.train
        rows.append(
            (
                name,
                experiment.verdict or experiment.status,
                plus_minus(result.score, result.stderr) if result else NONE,
                _number(train.get("train_loss"), ".3f"),
                _number(train.get("tokens_per_second"), ",.0f"),
                _number(train.get("peak_memory_gib"), ".2f"),
                duration(train["seconds"]) if "seconds" in train else NONE,
            )
        )
    head = ("experiment", "verdict", "selection score", "training loss", "tokens/s", "peak GiB", "training time")
    return Grid("What each experiment measured", head, tuple(rows), (2, 3, 4, 5, 6))


def _loss_curve(evidence: Evidence, experiment: Experiment) -> list[tuple[float, float]]:
    """(step, loss) from the latest training job of an experiment that logged any."""
    for job in reversed(_training_jobs(evidence, experiment)):
        folder = Path(job.folder) if job.folder else evidence.paths.job(job.key)
        points = [
            (float(line["step"]), float(line["loss"]))
            for line in read_lines(folder / "out" / "metrics.jsonl")
            if isinstance(line.get("step"), int | float) and isinstance(line.get("loss"), int | float)
        ]
        if finite(points):
            return finite(points)
    return []


def _training_jobs(evidence: Evidence, experiment: Experiment) -> list[Job]:
    return [
        job for job in evidence.jobs.values() if job.purpose is Purpose.TRAINING and job.experiment == experiment.id
    ]


def missing(evidence: Evidence) -> tuple[str, ...]:
    """What a complete run would have and this one has not, one sentence each."""
    lacks = []
    if not evidence.benchmarks:
        lacks.append("The base model was not scored.")
    if not evidence.recipes:
        lacks.append("No recipe was chosen.")
    if not evidence.datasets:
        lacks.append("No training data was made.")
    if evidence.datasets and not evidence.experiments:
        lacks.append("No experiment was planned.")
    stuck = {"planned": "planned but not trained", "trained": "trained but not scored"}
    lacks += [f"{e.id} was {stuck[e.status]}." for e in evidence.experiments.values() if e.status in stuck]
    if evidence.benchmarks and not evidence.champion:
        lacks.append("No champion was saved.")
    unfinished = [f"{action.purpose.value} of {action.experiment}" for action in evidence.actions if action.job is None]
    if unfinished:
        lacks.append(f"Not finished when this was written: {', '.join(unfinished)}.")
    if evidence.champion not in ("", BASELINE) and not evidence.comparisons:
        lacks.append("The champion was not compared with the base model on the report items.")
    return tuple(lacks)


def failures(evidence: Evidence) -> Section:
    """Everything that went wrong, the run's own end included."""
    lines = [f"The run: {evidence.row.error}"] if evidence.row.error else []
    for job in evidence.jobs.values():
        if job.state.terminal and (job.state is not JobState.SUCCEEDED or job.error):
            cause = job.error or "no cause was recorded"
            lines.append(f"{job.purpose.value} of {job.experiment}, attempt {job.attempt}, {job.state.value}: {cause}")
    lines += [f"Experiment {e.id}: {e.error}" for e in evidence.experiments.values() if e.error]
    blocks: tuple[Block, ...] = (Bullets(tuple(dict.fromkeys(lines))),) if lines else (Paragraph("None."),)
    return Section("failures", "Failures and errors", blocks)


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else NONE


def _count(number: int) -> str:
    """A number of weights as people say it: `135 M`, `1.7 B`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)
