"""The sections of a report that say what was asked and what came out: question, scores, what is missing."""

from __future__ import annotations

from collections.abc import Iterator

from agents.evaluator.statistics import lead_by_chance
from postgrad.answer import BASELINE
from postgrad.report.blocks import Block, Facts, Grid, Paragraph, Plot, Section
from postgrad.report.evidence import Evidence, item_scores, read_lines
from postgrad.report.plots import Bar, score_plot
from postgrad.units import NONE, difference, dollars, p_value, percent, plus_minus, signed
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import ComparisonResult, EvalResult, Part

MEASURES = {
    "loss": "the loss on those rows: how many nats a token the model needs for the reference answers; lower is better.",
    "preference": "the share of those pairs of which the model finds the chosen reply the likelier one; a reward "
    "model, of which it gives that one the higher score.",
    "exact": "the share of those rows that the model answers as they do, by the answer that it marks or else by all "
    "that it says.",
}
"""Metric of held-out rows → what success is the paired difference of."""

PROVES = {
    "loss": "A gain shows that the model has learned to answer as these data do, on rows that it has never seen. "
    "It does not show that its answers are right or useful beyond that, nor anything about rows from elsewhere: "
    "a benchmark of the task itself, as a [[benchmark]] in the goal, would.",
    "preference": "A gain shows that the model has learned what was preferred in these data, on pairs that it has "
    "never seen. It does not show that it writes better replies: none was generated. "
    "A benchmark of the task itself, as a [[benchmark]] in the goal, would.",
    "exact": "A gain shows that the model finds more of the right answers to questions like these, which it has never "
    "seen. It shows nothing about questions from elsewhere: a benchmark of those would.",
}
"""Metric of held-out rows → what a gain on them does and does not prove."""

ASKED = (
    "“Truncated” is the share of outputs that met the token limit, “completed” the score of the others: to be "
    "cut off is a fault of decoding. “No answer” is the share that ended without one in the asked form, “given "
    "answered” the accuracy of those that have one."
)
LIKELIHOOD = (
    "Nats a token are the mean negative log-likelihood of the reference answers, by item: "
    "0.1 nats fewer make every token of them about 1.1 times as likely. Nothing was generated for this score."
)


def question(evidence: Evidence) -> Section:
    """What was asked for, how success is measured, and within which limits."""
    goal, limits = evidence.goal, evidence.goal.limits
    model = goal.base_model or NONE
    if evidence.base_model.get("parameters"):
        model += f" ({_count(evidence.base_model['parameters'])} parameters)"
    revision = evidence.base_model.get("revision") or goal.revision
    rows = [
        ("Base model", model),
        ("Revision", revision or "none: a folder"),
        ("Benchmark", ", ".join(map(_benchmark, goal.benchmark)) or NONE),
        ("Method", _method(evidence)),
        ("Given data", ", ".join(goal.data.train) or "none"),
        (
            "Limits",
            f"{dollars(limits.usd)}, {limits.hours:g} h, {limits.jobs} job{'s' * (limits.jobs != 1)}, "
            f"{limits.experiments} experiment{'s' * (limits.experiments != 1)}, "
            f"{limits.llm_tokens:,} LLM tokens",
        ),
    ]
    if minds := _minds(evidence):
        rows.append(("Brain", minds))
    if limits.deadline is not None:
        rows.append(("Deadline", limits.deadline.isoformat()))
    if goal.run.parallel > 1:
        rows.append(("Side by side", f"up to {goal.run.parallel} experiments, once a first one has worked"))
    return Section("question", "The question", (Paragraph(goal.text), *_hold_out(evidence), Facts(tuple(rows))))


def _hold_out(evidence: Evidence) -> Iterator[Block]:
    """Where the goal names no benchmark: what it was measured on instead, and what that proves."""
    if not evidence.held_out:
        return
    step = next((s for d in evidence.datasets.values() for s in d.steps if s.name == "hold_out"), None)
    rows = f"{len(evidence.held_out)}{f' of {step.rows_in:,}' if step else ''} rows"
    metric = evidence.goal.primary.metric
    exact = any(entry.metric == "exact" for entry in evidence.goal.benchmark if entry != evidence.goal.primary)
    words = " Those with a short answer are compared word for word, too (holdout_exact)." if exact else ""
    yield Paragraph(
        f"The goal names no benchmark, so {rows} were held out of training before anything else "
        f"(near-duplicates kept together); success is the paired difference of {MEASURES[metric]}{words}"
    )
    yield Paragraph(PROVES[metric])


def _benchmark(entry: BenchmarkGoal) -> str:
    notes: list[str] = [entry.metric] if entry.metric != "auto" else []
    notes += [f"target {percent(entry.target)}"] if entry.target is not None else []
    return f"{entry.id} ({', '.join(notes)})" if notes else entry.id


def _method(evidence: Evidence) -> str:
    trained = dict.fromkeys(experiment.recipe.method for experiment in evidence.experiments.values())
    asked = evidence.goal.method
    return f"auto: {' and '.join(trained)} was chosen" if asked == "auto" and trained else asked


def _minds(evidence: Evidence) -> str:
    """Who has proposed: the built-in playbook, or which model in which role; empty where nobody has."""
    by: dict[str, dict[str, None]] = {}
    for event in read_lines(evidence.paths.events):
        if event.get("kind") == "proposal":
            by.setdefault(str(event.get("role", "")).replace("_", " "), {})[str(event.get("by", ""))] = None
    if all(list(names) == ["playbook"] for names in by.values()):
        return "the built-in playbook" if by else ""
    return "; ".join(f"{role}: {' and '.join(names)}" for role, names in by.items())


def scores(evidence: Evidence) -> Section:
    """Baseline against champion, part by part, and the one paired comparison."""
    blocks: list[Block] = []
    for name in evidence.benchmarks:
        blocks.append(_score_grid(evidence, name))
        claim = evidence.comparisons.get(name)
        if claim is not None:
            blocks.append(_claim(claim, name))
    if not blocks:
        return Section("scores", "Baseline against champion", (Paragraph("Nothing has been scored."),))
    bars = list(_bars(evidence))
    if bars:
        alt = "; ".join(f"{bar.label} on {bar.group}: {plus_minus(bar.score, bar.stderr, bar.unit)}" for bar in bars)
        lower = " Lower is better." if bars[0].unit == "nats" else ""
        caption = (
            f"Scores on {evidence.benchmarks[0]} with 95 % intervals. "
            f"The selection items steered the search; the report items only report.{lower}"
        )
        blocks.append(Plot("score", caption, alt, score_plot(bars)))
    units = {result.unit for result in evidence.results.values()}
    notes = [text for unit, text in (("fraction", ASKED), ("nats", LIKELIHOOD)) if unit in units]
    blocks.append(Paragraph(" ".join(["± is one standard error.", *notes, *_grounds(evidence)])))
    return Section("scores", "Baseline against champion", tuple(blocks))


def _grounds(evidence: Evidence) -> Iterator[str]:
    """What errors and scores rest on, where that is not plain."""
    clusters = {result.benchmark: result.clusters for result in evidence.results.values() if result.clusters}
    if clusters:
        yield f"Items of {', '.join(clusters)} share passages or the like, and the errors are clustered by them."
    if judges := sorted({result.judge for result in evidence.results.values() if result.judge}):
        yield f"Answers were graded by {' and '.join(judges)}."
    if evidence.goal.benchmark:
        yield from _flattered(evidence, evidence.goal.primary.id)


def _flattered(evidence: Evidence, benchmark: str) -> Iterator[str]:
    """By how much the best of several candidates looks better than it is (the winner's curse)."""
    results = [evidence.result(name, benchmark, Part.SELECTION) for name in evidence.experiments]
    scores = [found for result in results if result and (found := item_scores(result))]
    lead = lead_by_chance(scores)
    if lead:
        unit = next(result.unit for result in results if result)
        yield (
            f"Had all {len(scores)} experiments been equally good, the best of them would still look "
            f"{difference(lead, unit)[1:]} better than it is on the selection items that chose it."
        )


def _claim(claim: ComparisonResult, name: str) -> Paragraph:
    delta = difference(claim.delta, claim.unit)
    low, high = signed(claim.ci_low, claim.unit), signed(claim.ci_high, claim.unit)
    side, other = ("above", "") if claim.higher_is_better else ("below", "; lower is better")
    verdict = (
        f"The interval lies {side} 0." if claim.win else f"The interval does not lie {side} 0: this proves no gain."
    )
    by = f" ({claim.test}; {claim.discordant} items differ)" if claim.test else ""
    shows = ""
    if claim.mde is not None:
        least = difference(claim.mde, claim.unit)[1:]
        shows = f" So many items show a true difference of {least} in 80 % of cases, and a smaller one less often."
    return Paragraph(
        f"Paired difference of {claim.experiment} and the base model on the same {claim.n} report items of {name}: "
        f"{delta}, 95 % interval {low} to {high}, {p_value(claim.p_value)}{by}{other}. {verdict}{shows}"
    )


def _score_grid(evidence: Evidence, benchmark: str) -> Grid:
    """Where likelihoods are measured there is no answer, so none can be cut short or in another form."""
    found = [
        result
        for part in (Part.REPORT, Part.SELECTION)
        for model in dict.fromkeys((BASELINE, evidence.champion or BASELINE))
        if (result := evidence.result(model, benchmark, part))
    ]
    head = ["model", "items", "score", "n", "completed", "truncated", "no answer", "given answered", "K"]
    caption = f"{benchmark}: scores by part (K: answers sampled per item)"
    if found and found[0].unit == "nats":
        head, caption = ["model", "items", "loss", "n"], f"{benchmark}: nats a token by part; lower is better"
    elif any(entry.id == benchmark and entry.metric == "preference" for entry in evidence.goal.benchmark):
        head, caption = head[:4], f"{benchmark}: share of the pairs in which the chosen reply is the likelier one"
    rows = tuple(_score_row(result)[: len(head)] for result in found)
    return Grid(caption, tuple(head), rows, tuple(range(2, len(head))))


def _score_row(result: EvalResult) -> tuple[str, ...]:
    return (
        result.experiment,
        result.part.value,
        plus_minus(result.score, result.stderr, result.unit),
        str(result.n),
        NONE if result.completed is None else percent(result.completed),
        percent(result.truncated),
        percent(result.unparsed),
        percent(result.accuracy_given_answered) if result.answered else NONE,
        str(result.epochs),
    )


def _bars(evidence: Evidence) -> Iterator[Bar]:
    name = evidence.benchmarks[0]
    for part in (Part.SELECTION, Part.REPORT):
        for model in (BASELINE, *evidence.experiments):
            result = evidence.result(model, name, part)
            if result is not None:
                yield Bar(model, result.score, result.stderr, part.value, result.unit)


def missing(evidence: Evidence) -> tuple[str, ...]:
    """What a complete run would have and this one has not, one sentence each."""
    lacks = []
    if not evidence.benchmarks:
        lacks.append("The base model was not scored.")
    if evidence.goal.limits.experiments and not evidence.reproduction:
        lacks += _missing_of_the_search(evidence)
    unfinished = [f"{action.purpose.value} of {action.experiment}" for action in evidence.actions if action.job is None]
    if unfinished:
        lacks.append(f"Not finished when this was written: {', '.join(unfinished)}.")
    if evidence.champion not in ("", BASELINE) and not evidence.comparisons:
        lacks.append("The champion was not compared with the base model on the report items.")
    return tuple(lacks)


def _missing_of_the_search(evidence: Evidence) -> Iterator[str]:
    if not evidence.recipes:
        yield "No recipe was chosen."
    if not evidence.datasets:
        yield "No training data was made."
    if evidence.datasets and not evidence.experiments:
        yield "No experiment was planned."
    stuck = {"planned": "planned but not trained", "trained": "trained but not scored"}
    yield from (f"{e.id} was {stuck[e.status]}." for e in evidence.experiments.values() if e.status in stuck)
    if evidence.benchmarks and not evidence.champion:
        yield "No champion was saved."


def _count(number: int) -> str:
    """A number of weights as people say it: `135 M`, `1.7 B`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)
