"""The sections of a report that say what came out: question, scores, families, experiments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from postgrad.answer import BASELINE
from postgrad.blocks import Block, Bullets, Facts, Grid, Node, Paragraph, Plot, Section, Tree
from postgrad.evidence import Evidence, read_lines
from postgrad.families import Share, share_of, unseen_families
from postgrad.plots import Bar, finite, loss_plot, score_plot
from postgrad.units import dollars, duration, p_value, percent, signed
from shared_memory.records import MICRO_USD, EvalResult, Experiment, Job, Part, Purpose

NONE = "–"


def question(evidence: Evidence) -> Section:
    """What was asked for, and within which limits."""
    goal, limits = evidence.goal, evidence.goal.limits
    model = goal.base_model or NONE
    if evidence.base_model.get("parameters"):
        model += f" ({evidence.base_model['parameters'] / 1e6:,.0f} M parameters)"
    revision = evidence.base_model.get("revision") or goal.revision
    targets = [
        f"{entry.id}{f' (target {percent(entry.target)})' if entry.target is not None else ''}" for entry in goal.benchmark
    ]
    rows = [
        ("Base model", model),
        ("Revision", revision or "none: a folder"),
        ("Benchmark", ", ".join(targets) or NONE),
        ("Method", goal.method),
        ("Given data", ", ".join(goal.data.train) or "none"),
        ("Limits", f"{dollars(limits.usd)}, {limits.hours:g} h, {limits.jobs} jobs, {limits.experiments} experiments, "
                   f"{limits.llm_tokens:,} LLM tokens"),
    ]  # fmt: skip
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
                    f"Paired difference of {claim.experiment} and the base model on the same {claim.n} report items of {name}: "
                    f"{signed(claim.delta)} points, 95 % interval {signed(claim.ci_low)} to {signed(claim.ci_high)}, "
                    f"{p_value(claim.p_value)}. "
                    + ("The interval lies above 0." if claim.win else "The interval does not lie above 0: this proves no gain.")
                )
            )
    if not blocks:
        return Section("scores", "Baseline against champion", (Paragraph("Nothing has been scored."),))
    bars = list(_bars(evidence))
    if bars:
        alt = "; ".join(f"{bar.label} on {bar.group}: {percent(bar.score)} ± {100 * bar.stderr:.1f}" for bar in bars)
        caption = f"Scores on {evidence.benchmarks[0]} with 95 % intervals. The selection items steered the search; the report items only report."
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
                    (model, part.value, _plus_minus(result.score, result.stderr), str(result.n), percent(result.answered),
                     given, percent(result.truncated), str(result.epochs))
                )  # fmt: skip
    head = ("model", "items", "score", "n", "answered", "given answered", "truncated", "K")
    return Grid(f"{benchmark}: scores by part (K: answers sampled per item)", head, tuple(rows), tuple(range(2, len(head))))


def _bars(evidence: Evidence) -> Iterator[Bar]:
    name = evidence.benchmarks[0]
    for part in (Part.SELECTION, Part.REPORT):
        for model in (BASELINE, *evidence.experiments):
            result = evidence.result(model, name, part)
            if result is not None:
                yield Bar(model, result.score, result.stderr, part.value)


def families(evidence: Evidence) -> Section | None:
    """Skill apart from format, on the report items; None where those were not scored."""
    blocks: list[Block] = []
    for name in evidence.benchmarks:
        models = list(dict.fromkeys((BASELINE, evidence.champion or BASELINE)))
        report = {model: found for model in models if (found := evidence.result(model, name, Part.REPORT))}
        selection = [found for model in models if (found := evidence.result(model, name, Part.SELECTION))]
        if not report or not selection:
            continue
        unseen = unseen_families(report.values(), selection)
        blocks += [*_seen_and_unseen(name, report, unseen), _by_family(name, report, unseen)]
    if not blocks:
        return None
    return Section("families", "Skill apart from format", tuple(blocks))


def _seen_and_unseen(name: str, report: dict[str, EvalResult], unseen: frozenset[str]) -> list[Block]:
    if not unseen:
        return [Paragraph(f"Every family of questions of {name} occurs among the selection items too.")]
    everything = frozenset(family for result in report.values() for family in result.categories)
    rows = []
    for label, chosen in (("seen families", everything - unseen), ("unseen families", unseen)):
        for model, result in report.items():
            share = share_of(result, chosen)
            if share is not None:
                rows.append((label, model, *_share_cells(share)))
    names = ", ".join(sorted(unseen))
    return [
        Paragraph(
            f"Some families of questions occur only among the report items ({names}): they had no say in choosing the champion. "
            "A gain on the seen families may be the form of the answer, or formulas met in training; "
            "a gain on the unseen ones tells how far it carries over."
        ),
        Grid(
            f"{name}, report items: families that also occur in selection, and families that do not",
            ("families", "model", "score", "n", "answered", "given answered"), tuple(rows), (2, 3, 4, 5),
        ),
    ]  # fmt: skip


def _share_cells(share: Share) -> tuple[str, str, str, str]:
    score = percent(share.score) if share.stderr is None else _plus_minus(share.score, share.stderr)
    rates = [NONE if rate is None else percent(rate) for rate in (share.answered, share.given_answered)]
    return score, str(share.n), rates[0], rates[1]


def _by_family(name: str, report: dict[str, EvalResult], unseen: frozenset[str]) -> Grid:
    rows = []
    for family in sorted({family for result in report.values() for family in result.categories}, key=lambda f: (f in unseen, f)):
        entries = [result.categories.get(family) for result in report.values()]
        cells = [percent(entry.score) if entry else NONE for entry in entries]
        known = [entry for entry in entries if entry]
        change = signed(known[1].score - known[0].score) if len(known) == 2 else NONE
        rows.append((family, "unseen" if family in unseen else "seen", str(known[0].n), *cells, *([change] if len(report) == 2 else [])))
    head = ("family", "in selection", "n", *report, *(["points"] if len(report) == 2 else []))
    return Grid(f"{name}, report items, by family", head, tuple(rows), tuple(range(2, len(head))))


def experiments(evidence: Evidence) -> Section:
    """The tree of experiments with what each measured, and the loss curves."""
    if not evidence.experiments:
        return Section("experiments", "Experiments", (Paragraph("No experiment was run."),))
    blocks: list[Block] = [Tree(_children(evidence, BASELINE)), _experiment_grid(evidence)]
    curves = {name: curve for name, experiment in evidence.experiments.items() if (curve := _loss_curve(evidence, experiment))}
    if curves:
        ends = "; ".join(f"{name} from {points[0][1]:.3f} to {points[-1][1]:.3f} in {points[-1][0]:g} steps" for name, points in curves.items())
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
                _plus_minus(result.score, result.stderr) if result else NONE,
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
    return [job for job in evidence.jobs.values() if job.purpose is Purpose.TRAINING and job.experiment == experiment.id]


def missing(evidence: Evidence) -> tuple[str, ...]:
    """What a complete run would have and this one has not, one sentence each."""
    lacks = []
    goal_has_scores = bool(evidence.benchmarks)
    if not goal_has_scores:
        lacks.append("The base model was not scored.")
    if not evidence.recipes:
        lacks.append("No recipe was chosen.")
    if not evidence.datasets:
        lacks.append("No training data was made.")
    if evidence.datasets and not evidence.experiments:
        lacks.append("No experiment was planned.")
    lacks += [
        f"{experiment.id} was {'trained but not scored' if experiment.status == 'trained' else 'planned but not trained'}."
        for experiment in evidence.experiments.values()
        if experiment.status in ("planned", "trained")
    ]
    if evidence.experiments and not evidence.saved:
        lacks.append("No champion was saved.")
    if evidence.champion not in ("", BASELINE) and evidence.goal.primary.id not in evidence.comparisons:
        lacks.append("The champion was not compared with the base model on the report items.")
    return tuple(lacks)


def failures(evidence: Evidence) -> Section:
    """Everything that went wrong, the run's own end included."""
    lines = [f"The run: {evidence.row.error}"] if evidence.row.error else []
    lines += [
        f"{job.purpose.value} of {job.experiment}, attempt {job.attempt}, {job.state.value}: {job.error or 'no cause was recorded'}"
        for job in evidence.jobs.values()
        if job.state.terminal and (job.state != "succeeded" or job.error)
    ]
    lines += [f"Experiment {experiment.id}: {experiment.error}" for experiment in evidence.experiments.values() if experiment.error]
    blocks: tuple[Block, ...] = (Bullets(tuple(dict.fromkeys(lines))),) if lines else (Paragraph("None."),)
    return Section("failures", "Failures and errors", blocks)


def spent_so_far(evidence: Evidence) -> str:
    return dollars(evidence.spend.usd_micro / MICRO_USD)


def _plus_minus(score: float, stderr: float) -> str:
    return f"{100 * score:.1f} ± {100 * stderr:.1f} %"


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else NONE
