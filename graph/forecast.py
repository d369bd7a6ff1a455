"""What a goal will take, before anything is spent: its moves in order, with their jobs, time and worst cost."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agents.base_model import BaseModel
from agents.brain import Brief, Move, Role
from agents.data_engineer import playbook as data_rules
from agents.data_engineer.prepare import ROWS_PER_HOUR
from agents.data_engineer.synthesis import teacher
from agents.evaluator import endpoint, evaluation
from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.proposal import HoldOutProposal
from agents.evaluator.scoring import judge
from agents.hosting import is_hosted
from agents.jobs.flavors import Flavors
from agents.provider import Provider
from agents.publishing.runner import FOLDER, TIMEOUT_SECONDS, flavor_of
from agents.researcher import playbook as research_rules
from agents.trainer import delivery, training
from agents.trainer.planner import Data, Known
from agents.trainer.throughput import CHARACTERS_PER_TOKEN, USUAL_FILL, matrix_gflops
from graph.briefing import benchmarks_of
from graph.carry_out import rows_held_out
from graph.intake import check_goal
from graph.placement import hardware_for, offered
from graph.routing import ABLATIONS, JOBS_OF_AN_EXPERIMENT
from graph.synthesis import audited, is_multiple_choice, teacher_of
from shared_memory.goal import Goal
from shared_memory.recipes import title_of
from shared_memory.records import MICRO_USD, Estimate, Part, Recipe, Record


class Step(Record):
    """Something that the run will do."""

    move: str
    what: str
    jobs: int = 0
    hours: float = 0.0
    """As predicted."""
    worst_hours: float = 0.0
    """Until every time-out has struck."""
    worst_usd: float = 0.0


class Forecast(Record):
    """The plan of a run by the built-in rules; a language model may choose other experiments, within the same caps."""

    steps: tuple[Step, ...]
    jobs: int
    hours: float
    worst_hours: float
    """No more than the goal's cap."""
    worst_usd: float
    """Of all steps; a note says so where the goal's cap does not reach that far, which is never exceeded."""
    notes: tuple[str, ...]


def forecast(goal: Goal) -> Forecast:
    """The plan; nothing is written outside a temporary folder, and no job is started.

    Raises BadInput for a goal that cannot be worked on.
    """
    found = check_goal(goal)
    notes = ["times are predictions from the model's size until this machine has measured them"]
    with tempfile.TemporaryDirectory(prefix="postgrad-plan-") as folder:
        first: list[Step] = []
        if not goal.benchmark:
            method = Brief(goal=goal, move=Move.HOLD_OUT, trains=found.trains).method
            goal, ids, total = rows_held_out(goal, HoldOutProposal(), Path(folder), method)
            first.append(Step(move=Move.HOLD_OUT, what=f"hold {len(ids)} of {total} rows out to measure on"))
        name = teacher_of(goal, goal.mind(Role.DATA_ENGINEER))
        brief = Brief(
            goal=goal,
            move=Move.RESEARCH,
            parameters=found.model.parameters,
            trains=found.trains,
            audit=audited(goal) if found.trains else None,  # too many rows to look at now: their size is known
            choices=is_multiple_choice(goal),
            teacher="" if not name or teacher.refusal(name, goal) else name,
        )
        flavors = offered(goal.run.on)
        data_bytes = sum(file.stat().st_size for file in found.files)
        steps = [*first, *_steps(goal, found.model, brief, flavors, data_bytes)]
    limits = goal.limits
    planned = sum(step.jobs for step in steps if step.move == Move.DRAFT) // JOBS_OF_AN_EXPERIMENT
    if planned < limits.experiments:
        notes.append(f"the cap of {limits.jobs} jobs leaves room for {planned} of {limits.experiments} experiments")
    hours, usd = sum(step.worst_hours for step in steps), sum(step.worst_usd for step in steps)
    if hours > limits.hours:
        notes.append(f"the cap of {limits.hours:g} h is reached before every time-out could strike")
    if goal.run.on in ("hf", "slurm"):
        notes.append(f"jobs run on {goal.run.on}: {flavors.note}")
    notes += _notes_on_money(goal, name, steps)
    notes += _notes_on_judging(goal, found.benchmarks)
    notes += _notes_on_data(goal)
    return Forecast(
        steps=tuple(steps),
        jobs=sum(step.jobs for step in steps),
        hours=round(sum(step.hours for step in steps), 4),
        worst_hours=round(min(hours, limits.hours), 4),
        worst_usd=round(usd, 2),
        notes=tuple(notes),
    )


def _notes_on_money(goal: Goal, writer: str, steps: Sequence[Step]) -> Iterator[str]:
    """What the goal's cap does not pay for, and a writer of rows whose price is not known."""
    cap, usd = goal.limits.usd, sum(step.worst_usd for step in steps)
    if usd and not cap:
        unpaid = "; ".join(step.what.partition(": ")[0] for step in steps if step.worst_usd)
        yield f"limits.usd is 0, so this cannot be paid: {unpaid}; raise it, or name what runs on this machine"
    elif usd > cap:
        yield f"the cap of ${cap:g} is reached before all of ${usd:.2f} could be spent"
    writes = writer and any(step.move == Move.DATA and f"rows with {writer}: " in step.what for step in steps)
    api_base = goal.brain.api_base
    if not writes or not is_hosted(writer, api_base):
        return
    if Provider(writer, api_base).most_usd_micro(teacher.REQUEST_TOKENS) is None:
        yield f"LiteLLM does not list `{writer}`: check its name; what it costs is not known, so no dollars are counted"


def _notes_on_judging(goal: Goal, benchmarks: Mapping[str, Benchmark]) -> Iterator[str]:
    """Benchmarks that a language model grades, and caps that do not reach for grading one model's answers."""
    for name, benchmark in benchmarks.items():
        if not benchmark.is_judged:
            continue
        terms = judge.terms(benchmark, tuple(Part), goal)
        yield f"{name}: {terms.told.removeprefix('; ')} for each model that is scored on all items"
        if terms.tokens > goal.limits.llm_tokens:
            yield f"limits.llm_tokens is {goal.limits.llm_tokens:,}: too few to grade one model's answers to {name}"


def _notes_on_data(goal: Goal) -> Iterator[str]:
    """What the goal says of its data and their making that no step shows."""
    data = goal.data
    if data.generator and data.teacher:
        yield f"where rows are written, {Path(data.generator).name} writes them; the teacher {data.teacher} is not used"
    if data.weights:
        yield "rows are mixed by weight: " + ", ".join(
            f"{Path(name).name} {weight:g}" for name, weight in zip(data.train, data.weights, strict=True)
        )
    if goal.run.sandbox == "none":
        yield "sandbox = none: generators and generated code run without a sandbox, with all that you may do here"


def _steps(goal: Goal, model: BaseModel, brief: Brief, flavors: Flavors, data_bytes: int) -> Iterator[Step]:
    baseline = _evaluations(goal, model, flavors, tuple(Part), Move.BASELINE, "score the base model on all items")
    yield baseline
    if not goal.limits.experiments:
        return
    confirm = _evaluations(goal, model, flavors, (Part.REPORT,), Move.CONFIRM, "score the champion on the report items")
    recipes = {recipe.id: recipe for recipe in research_rules.propose(brief).recipes}
    pilot = next(iter(recipes.values()))
    yield Step(move=Move.RESEARCH, what=f"recipes of the library, best first: {', '.join(recipes)}")
    data = _data(goal, brief, recipes)
    yield data
    score = _evaluations(goal, model, flavors, (Part.SELECTION,), Move.CANDIDATE, "", primary_only=True)
    merge = 1 if pilot.lora and "merged" in goal.output.save else 0
    output = goal.output
    published = ((Move.PUSH, "model", output.push_to), (Move.PUBLISH, "training data", output.data_to))
    publish = [_publication(move, what, to, output.private) for move, what, to in published if to]
    room = goal.limits.jobs - baseline.jobs - data.jobs - confirm.jobs - merge - len(publish)
    count = max(0, min(goal.limits.experiments, room // JOBS_OF_AN_EXPERIMENT))
    adapter = f"LoRA r{pilot.lora.r}" if pilot.lora else "all weights"
    first = f"a pilot of {pilot.id}: {title_of(pilot.method)}, {adapter}, learning rate {pilot.learning_rate:g}"
    tokens = _tokens(data_bytes, pilot)
    yield _experiments(goal, model, flavors, pilot, score, min(count, 1), first, tokens)
    if count > 1:
        share = f", and without some of its parts ({count // ABLATIONS})" if count >= ABLATIONS else ""
        more = f"up to {count - 1} more: other recipes, then single changes to the best{share}"
        yield _experiments(goal, model, flavors, pilot, score, count - 1, more, tokens)
    if merge:
        estimate = delivery.merge_estimate(model)
        yield Step(
            move=Move.DELIVER,
            what="merge the champion's adapter and save it",
            jobs=1,
            hours=estimate.hours,
            worst_hours=delivery.TIMEOUT_SECONDS / 3600,
            worst_usd=_worst_usd(goal, flavors, estimate, delivery.TIMEOUT_SECONDS, "the merge"),
        )
    yield confirm
    yield from publish


def _publication(move: Move, what: str, to: str, private: bool) -> Step:
    """What is published to where the goal wants it; how long that takes is known once it is there."""
    who = "" if flavor_of(to) == FOLDER else ", private" if private else ", for everybody to read"
    worst = TIMEOUT_SECONDS / 3600
    return Step(move=move, what=f"publish the {what}: {to}{who}", jobs=1, worst_hours=worst)


def _data(goal: Goal, brief: Brief, recipes: dict[str, Recipe]) -> Step:
    proposal = data_rules.propose_data(replace(brief, move=Move.DATA, recipes=recipes))
    if proposal.generate is None:
        return Step(move=Move.DATA, what=proposal.summary())
    if proposal.generate.teacher:
        estimate = teacher.estimate(proposal.generate, goal)
        worst = teacher.TIMEOUT_SECONDS / 3600
        return Step(
            move=Move.DATA,
            what=proposal.summary(),
            jobs=1,
            hours=round(estimate.hours, 4),
            worst_hours=worst,
            worst_usd=_usd(estimate),
        )
    hours = proposal.generate.rows / ROWS_PER_HOUR
    return Step(move=Move.DATA, what=proposal.summary(), jobs=1, hours=round(hours, 4), worst_hours=1)


def _evaluations(
    goal: Goal,
    model: BaseModel,
    flavors: Flavors,
    parts: tuple[Part, ...],
    move: Move,
    what: str,
    primary_only: bool = False,
) -> Step:
    """Scoring one model on the goal's benchmarks, or on the primary one alone."""
    benchmarks = benchmarks_of(goal)
    chosen = [benchmarks[goal.primary.id]] if primary_only else list(benchmarks.values())
    estimates = [
        endpoint.estimate(benchmark, parts, goal)
        if goal.run.on == "api"
        else evaluation.evaluation_estimate(benchmark, parts, model, None)
        for benchmark in chosen
    ]
    return Step(
        move=move,
        what=what,
        jobs=len(estimates),
        hours=round(sum(estimate.hours for estimate in estimates), 4),
        worst_hours=sum(map(evaluation.timeout_seconds, estimates)) / 3600,
        worst_usd=sum(
            _worst_usd(goal, flavors, estimate, evaluation.timeout_seconds(estimate), "the scoring of a model")
            for estimate in estimates
        )
        + sum(judge.terms(each, parts, goal).usd_micro or 0 for each in chosen if each.is_judged) / MICRO_USD,
    )


def forecast_of_variants(
    goal: Goal, model: BaseModel, variants: Sequence[tuple[str, Recipe, int]], measured: float | None
) -> Forecast:
    """The plan of an ablation: what each variant is called, its recipe, and the tokens that it is trained on.

    measured: tokens a second of a training of this model on this machine, where there was one.
    """
    flavors = offered(goal.run.on)
    score = _evaluations(goal, model, flavors, (Part.SELECTION,), Move.CANDIDATE, "", primary_only=True)
    pilot = iter(["the pilot: "])
    steps = tuple(
        _experiments(goal, model, flavors, recipe, score, 1, next(pilot, "") + what, tokens, measured, Move.ABLATE)
        for what, recipe, tokens in variants
    )
    jobs, limits = sum(step.jobs for step in steps), goal.limits
    hours, usd = sum(step.worst_hours for step in steps), sum(step.worst_usd for step in steps)
    notes = [f"what is measured are selection items of {goal.primary.id}: evidence for a search, no claim"]
    if jobs > limits.jobs:
        room = limits.jobs // JOBS_OF_AN_EXPERIMENT
        notes.append(f"the cap of {limits.jobs} jobs leaves room for {room} of {len(steps)} variants, the first ones")
    if hours > limits.hours:
        notes.append(f"the cap of {limits.hours:g} h is reached before every time-out could strike")
    if usd > limits.usd:
        notes.append(f"${limits.usd:g} may be spent, and ${usd:.2f} it could be: it ends where that is reached")
    return Forecast(
        steps=steps,
        jobs=min(jobs, limits.jobs),
        hours=round(sum(step.hours for step in steps), 4),
        worst_hours=round(min(hours, limits.hours), 4),
        worst_usd=round(usd, 2),
        notes=tuple(notes),
    )


def _experiments(
    goal: Goal,
    model: BaseModel,
    flavors: Flavors,
    recipe: Recipe,
    score: Step,
    count: int,
    what: str,
    tokens: int,
    measured: float | None = None,
    move: Move = Move.DRAFT,
) -> Step:
    """`count` experiments like one of `recipe`: training, and a score on the selection items."""
    known = Known(tokens_per_second=measured, gflops=matrix_gflops())
    planned = training.plan_for(goal, model, recipe, flavors, Data(tokens=tokens), known, usd_left=goal.limits.usd)
    estimate, worst = planned.estimate, planned.timeout_seconds / 3600 + score.worst_hours
    return Step(
        move=move,
        what=what,
        jobs=count * JOBS_OF_AN_EXPERIMENT,
        hours=round(count * (estimate.hours + score.hours), 4),
        worst_hours=round(count * worst, 4),
        worst_usd=count * (_usd(estimate) + score.worst_usd),
    )


def _tokens(data_bytes: int, recipe: Recipe) -> int:
    """Tokens to train on, from the size of the goal's data; without any, of the rows that the recipe asks for."""
    if data_bytes:
        return round(data_bytes / CHARACTERS_PER_TOKEN)
    return math.ceil(recipe.train_rows * recipe.max_length * USUAL_FILL)


def _worst_usd(goal: Goal, flavors: Flavors, estimate: Estimate, timeout_seconds: int, what: str) -> float:
    """Dollars that a job costs which is ended by its time-out, on the hardware that it would get."""
    if goal.run.on in ("local", "api"):
        return _usd(estimate)
    return hardware_for(estimate.memory_gib, what, goal, flavors).usd_micro(timeout_seconds / 3600) / MICRO_USD


def _usd(*estimates: Estimate) -> float:
    return sum(estimate.usd_micro for estimate in estimates) / MICRO_USD
