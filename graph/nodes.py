"""The nodes: intake, router, two thin ones per role, and the verdict.

`*_propose` asks the role's brain and writes one typed proposal. `*_carry_out` is deterministic: it calls the role's
craft, and every write to the journal is an upsert, so a node that runs again after a crash changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

from langgraph.runtime import Runtime

from agents.base_model import BaseModel, find_base_model
from agents.brain import Brief, Move, Role
from agents.data_engineer import prepare as data_engineer
from agents.data_engineer.decontaminate import BenchmarkText
from agents.data_engineer.proposal import DataProposal
from agents.evaluator import evaluation
from agents.evaluator.benchmarks import Benchmark, load_benchmark
from agents.evaluator.proposal import EvaluationProposal
from agents.researcher.proposal import ResearchProposal
from agents.trainer import delivery, training
from agents.trainer.proposal import DeliveryProposal, RetryProposal, TrainingProposal
from graph import routing
from graph.context import Context, Desk
from graph.intake import check_goal
from graph.state import ById, Plain, RunState, update
from shared_memory.goal import Goal, parse_goal
from shared_memory.records import (
    DatasetRecord,
    EvalResult,
    Experiment,
    Finding,
    Job,
    JobSpec,
    Part,
    Record,
)

R = TypeVar("R", bound=Record)

WHAT_A_MOVE_IS = {
    Move.BASELINE: "score the base model",
    Move.RESEARCH: "look for recipes",
    Move.DATA: "make training data",
    Move.DRAFT: "plan the first experiment",
    Move.DEBUG: "train {} again",
    Move.IMPROVE: "change one thing about {}",
    Move.CANDIDATE: "score {} on the selection items",
    Move.DELIVER: "save {} as the champion",
    Move.CONFIRM: "score the champion on the report items",
    Move.STOP: "write the report",
}


def intake(state: Goal, runtime: Runtime[Context]) -> Plain:
    """Check the goal against the world, and put it on record."""
    desk = Desk.of(runtime)
    goal = parse_goal(state.plain(), folder=Path.cwd())
    model, benchmarks = check_goal(goal)
    desk.register(goal)
    desk.journal.note("base_model", "base_model", model.model_dump(mode="json", exclude={"config"}))
    described = {
        name: {"digest": benchmark.digest, **{part.value: _count(benchmark, part) for part in Part}}
        for name, benchmark in benchmarks.items()
    }
    for name, facts in described.items():
        desk.emit("note", text=f"benchmark {name}: {facts['selection']} items select, {facts['report']} only report")
    return update(goal=goal, benchmarks=described, reopened=0, halt="", error="")


def _count(benchmark: Benchmark, part: Part) -> int:
    return sum(item.part == part for item in benchmark.items)


def router(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Take stock of the run's means, and let `routing` choose."""
    desk = Desk.of(runtime)
    goal = routing.goal_of(state)
    stock = desk.stock(goal, _seconds_kept(state))
    cancelled = stock["cancelled"]
    halt, error = (
        ("cancelled", "a person cancelled the run") if cancelled else (state.get("halt", ""), state.get("error", ""))
    )
    choice = routing.next_move(cast(RunState, {**state, "stock": stock, "halt": halt}))
    if choice.halt:
        halt, error = choice.halt, choice.why
        desk.emit("note", text=f"the search ends here: {error}")
    spend = desk.budget(goal).spent()
    hours = desk.runs.get(desk.run_id).active_seconds / 3600
    desk.emit("spent", usd=spend.usd_micro / 1e6, jobs=spend.jobs, hours=round(hours, 4))
    role = choice.move.role
    desk.emit(
        "move",
        move=choice.move.value,
        role=role.value if role else "",
        experiment=choice.subject,
        text=WHAT_A_MOVE_IS[choice.move].format(choice.subject),
    )
    return update(stock=stock, move=choice.move, subject=choice.subject, halt=halt, error=error)


def _seconds_kept(state: RunState) -> float:
    """What saving the champion and its last evaluation will take, from what evaluations of this run took."""
    results = [EvalResult.model_validate(plain) for plain in state.get("results", {}).values()]
    per_item = evaluation.seconds_an_item(results) or 0.0
    items = sum(int(facts["report"]) for facts in state.get("benchmarks", {}).values())
    return 60 + 1.5 * per_item * items if results else 0.0


def researcher_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    return _propose(Role.RESEARCHER, state, runtime)


def data_engineer_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    return _propose(Role.DATA_ENGINEER, state, runtime)


def trainer_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    return _propose(Role.TRAINER, state, runtime)


def evaluator_propose(state: RunState, runtime: Runtime[Context]) -> Plain:
    return _propose(Role.EVALUATOR, state, runtime)


def _propose(role: Role, state: RunState, runtime: Runtime[Context]) -> Plain:
    desk = Desk.of(runtime)
    brain = desk.brain(routing.goal_of(state), role)
    proposal = brain.propose(role, brief_from(state))
    desk.emit("proposal", role=role.value, by=brain.name, text=proposal.summary())
    return update(proposal=proposal.plain())


def brief_from(state: RunState) -> Brief:
    """What a role is shown."""
    return Brief(
        goal=routing.goal_of(state),
        move=Move(state["move"]),
        experiment=state.get("subject", ""),
        parameters=model_of(routing.goal_of(state)).parameters,
        findings=_records(state.get("findings", {}), Finding),
        recipes=routing.recipes_of(state),
        datasets=_records(state.get("datasets", {}), DatasetRecord),
        experiments=routing.experiments_of(state),
        results=_records(state.get("results", {}), EvalResult),
        generated=tuple(state.get("generated", [])),
    )


def _records(channel: ById, kind: type[R]) -> dict[str, R]:
    return {key: kind.model_validate(plain) for key, plain in channel.items()}


def researcher_carry_out(state: RunState, runtime: Runtime[Context]) -> Plain:
    """File findings and recipes."""
    desk = Desk.of(runtime)
    proposal = ResearchProposal.model_validate(state["proposal"])
    for finding in proposal.findings:
        desk.journal.put(finding, id=finding.id)
    for recipe in proposal.recipes:
        desk.journal.put(recipe, id=recipe.id)
    return update(
        findings={finding.id: finding for finding in proposal.findings},
        recipes={recipe.id: recipe for recipe in proposal.recipes},
    )


def data_engineer_carry_out(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Ask for a generation job, or make the data set from what is there."""
    desk = Desk.of(runtime)
    goal = routing.goal_of(state)
    proposal = DataProposal.model_validate(state["proposal"])
    if proposal.generate is not None:
        return _ask_for([data_engineer.generation_job(proposal.generate, paths=desk.paths, timeout_seconds=3600)])
    texts = [
        BenchmarkText(benchmark.name, item.id, item.question, tuple(item.choices))
        for benchmark in benchmarks_of(goal).values()
        for item in benchmark.items
    ]
    dataset = data_engineer.prepare(proposal, benchmarks=texts, folder=desk.paths.data, seed=goal.run.seed)
    desk.journal.put(dataset, id=dataset.id)
    dropped = ", ".join(
        f"{step.name} −{step.rows_in - step.rows_out}" for step in dataset.steps if step.rows_in > step.rows_out
    )
    desk.emit("note", text=f"data set {dataset.id}: {dataset.rows} rows ({dropped or 'nothing dropped'})")
    return update(datasets={dataset.id: dataset}, pending=[])


def trainer_carry_out(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Ask for the training of a new or reopened experiment, or for what handing a model over needs."""
    desk = Desk.of(runtime)
    brief = brief_from(state)
    model = model_of(brief.goal)
    if brief.move is Move.DELIVER:
        delivered = DeliveryProposal.model_validate(state["proposal"])
        return _deliver(delivered, state, desk, model)
    if brief.move is Move.DEBUG:
        retry = RetryProposal.model_validate(state["proposal"])
        experiment = brief.experiments[retry.experiment]
    else:
        experiment = training.plan_experiment(TrainingProposal.model_validate(state["proposal"]), brief)
        desk.journal.put(experiment, id=experiment.id)
    spec = training.training_job(
        experiment,
        parent=brief.experiments.get(experiment.parent),
        dataset=brief.datasets[experiment.dataset],
        model=model,
        goal=brief.goal,
        paths=desk.paths,
        measured=training.measured_rate(brief.experiments.values()),
        gflops=desk.gflops(),
    )
    return {**_ask_for([spec]), **update(experiments={experiment.id: experiment})}


def _deliver(proposal: DeliveryProposal, state: RunState, desk: Desk, model: BaseModel) -> Plain:
    """A merge where it is asked for and the run may still start jobs; else the trained files as they are."""
    experiment = routing.experiments_of(state)[proposal.experiment]
    may_run = state.get("halt") not in ("cancelled", "failed") and routing.means_left(state)
    if proposal.merge and may_run and not routing.gave_up(state, Move.DELIVER):
        return _ask_for([delivery.merge_job(experiment, model, desk.paths)])
    return hand_over(experiment, None, desk, routing.goal_of(state), model)


def hand_over(experiment: Experiment, merge: Job | None, desk: Desk, goal: Goal, model: BaseModel) -> Plain:
    folder = delivery.hand_over(experiment, merge, goal, model, desk.paths)
    desk.journal.note("champion", "champion", {"experiment": experiment.id, "model": str(folder)})
    desk.emit("note", text=f"the champion is {experiment.id}, saved in {folder}")
    return update(delivered=experiment.id, model=str(folder), pending=[])


def evaluator_carry_out(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Ask for the evaluations."""
    desk = Desk.of(runtime)
    brief = brief_from(state)
    proposal = EvaluationProposal.model_validate(state["proposal"])
    benchmarks = benchmarks_of(brief.goal)
    specs = [
        evaluation.evaluation_job(
            benchmarks[name],
            proposal.parts,
            name=proposal.experiment,
            experiment=brief.experiments.get(proposal.experiment),
            delivered=state.get("model", "") if brief.move is Move.CONFIRM else "",
            model=model_of(brief.goal),
            goal=brief.goal,
            paths=desk.paths,
            seconds_an_item=evaluation.seconds_an_item(brief.results.values()),
        )
        for name in proposal.benchmarks
    ]
    return _ask_for(specs)


def _ask_for(specs: list[JobSpec]) -> Plain:
    return update(pending=specs, finished=[])


def model_of(goal: Goal) -> BaseModel:
    return find_base_model(goal.base_model, goal.revision)


def benchmarks_of(goal: Goal) -> dict[str, Benchmark]:
    return {entry.id: load_benchmark(entry) for entry in goal.benchmark}
