"""What a role's proposal comes to: deterministic, and safe to do again after a crash.

Each of these nodes calls its role's craft; every write to the journal is an upsert, so a node that runs again changes
nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from langgraph.runtime import Runtime

from agents.base_model import BaseModel
from agents.brain import Brief, Move
from agents.data_engineer.duplicates.dedup import near_duplicate_clusters
from agents.data_engineer.filters import balance_letters
from agents.data_engineer.formats.layouts import as_measured
from agents.data_engineer.formats.tables import read_sources
from agents.data_engineer.held_out import digests
from agents.data_engineer.prepare import render
from agents.data_engineer.proposal import DataProposal, PublishProposal
from agents.data_engineer.publishing import publisher
from agents.evaluator import endpoint, evaluation, hold_out, scored
from agents.evaluator.proposal import EvaluationProposal, HoldOutProposal
from agents.reading.sources import to_train_on
from agents.researcher.proposal import ResearchProposal
from agents.trainer import delivery, training
from agents.trainer.proposal import (
    AblationProposal,
    DebugProposal,
    DeliveryProposal,
    PushProposal,
    TrainingProposal,
)
from agents.trainer.publish import model_publishing_job
from graph import certificate, datasets, publications, routing, synthesis, variants
from graph.briefing import benchmarks_of, brief_from, described, model_of
from graph.context import Context, Desk
from graph.placement import placed
from graph.recover import taken_up
from graph.state import Plain, RunState, update
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.recipes import layout_of
from shared_memory.records import MICRO_USD, DatasetRecord, Experiment, Job, JobSpec


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
    if Move(state["move"]) is Move.PUBLISH:
        return _publish(PublishProposal.model_validate(state["proposal"]), state, desk)
    proposal = DataProposal.model_validate(state["proposal"])
    if proposal.generate is not None:
        return _ask_for(
            [synthesis.generation_job(proposal.generate, synthesis.data_brief(state, desk), desk)], goal, desk
        )
    dataset = datasets.made(proposal, goal, desk, is_held_out=bool(state.get("held_out")))
    datasets.file(dataset, desk)
    return update(datasets={dataset.id: dataset}, pending=[])


def _publish(proposal: PublishProposal, state: RunState, desk: Desk) -> Plain:
    """Ask for the publication; what may not be shared is told, and not asked for."""
    record = DatasetRecord.model_validate(state["datasets"][proposal.dataset])
    try:
        job = publisher.publishing_job(record, proposal.to, private=proposal.private, paths=desk.paths)
        return _ask_for([job], routing.goal_of(state), desk)
    except BadInput as refused:
        desk.emit("note", text=f"the training data are not published: {refused}")
        return _nothing_to_publish(Move.PUBLISH, state)


def _push(proposal: PushProposal, state: RunState, desk: Desk) -> Plain:
    """The same for the delivered model, unless its certificate is violated."""
    goal = routing.goal_of(state)
    certified = certificate.certificate_of(state, desk)
    if certificate.is_violated(certified):
        desk.emit("note", text=f"the model is not published: its certificate is violated ({certified['reasons'][0]})")
        return _nothing_to_publish(Move.PUSH, state)
    facts = publications.model_facts(desk, goal, state["delivered"], publications.digests_of(state))
    try:
        job = model_publishing_job(facts, proposal.to, private=proposal.private, paths=desk.paths)
    except BadInput as refused:
        desk.emit("note", text=f"the model is not published: {refused}")
        return _nothing_to_publish(Move.PUSH, state)
    return _ask_for([job], goal, desk)


def _nothing_to_publish(move: Move, state: RunState) -> Plain:
    return update(exhausted=[*state.get("exhausted", []), routing.exhausted(move, "")], pending=[])


def trainer_carry_out(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Ask for the training of new or reopened experiments, or for what handing a model over needs."""
    desk = Desk.of(runtime)
    brief = brief_from(state)
    model = model_of(brief.goal)
    if brief.move is Move.PUSH:
        return _push(PushProposal.model_validate(state["proposal"]), state, desk)
    if brief.move is Move.DELIVER:
        delivered = DeliveryProposal.model_validate(state["proposal"])
        return _deliver(delivered, state, desk, model)
    known, gone = dict(brief.datasets), list[str]()
    if brief.move is Move.ABLATE:
        proposal = AblationProposal.model_validate(state["proposal"])
        experiments, gone = variants.to_train(proposal, brief, known, desk, is_held_out=bool(state.get("held_out")))
    else:
        experiments = _experiments_to_train(state["proposal"], brief, desk)
    if not experiments:
        gone = gone or [routing.exhausted(brief.move, brief.experiment or routing.BASELINE)]
        return update(exhausted=[*state.get("exhausted", []), *gone], datasets=known, pending=[])
    for experiment in experiments:
        desk.journal.put(experiment, id=experiment.id)
    left = state["stock"]["usd_left_micro"] - state["stock"]["usd_kept_micro"]
    specs = [
        training.training_job(
            experiment,
            parent=brief.experiments.get(experiment.parent),
            dataset=known[experiment.dataset],
            model=model,
            goal=brief.goal,
            paths=desk.paths,
            flavors=desk.flavors(brief.goal),
            usd_left=max(0, left) / len(experiments) / MICRO_USD,
            # On one machine: elsewhere the next job may get other hardware.
            measured=training.measured_rate(brief.experiments.values()) if brief.goal.run.on == "local" else None,
            gflops=desk.gflops(),
        )
        for experiment in experiments
    ]
    return {
        **_ask_for(specs, brief.goal, desk),
        **update(
            experiments={experiment.id: experiment for experiment in experiments},
            datasets=known,
            exhausted=[*state.get("exhausted", []), *gone],
        ),
    }


def _experiments_to_train(plain: Plain, brief: Brief, desk: Desk) -> list[Experiment]:
    """What a proposal comes to: known experiments as they are, or new ones; none if it gives up."""
    if brief.move is Move.RETRY:
        return [brief.experiments[brief.experiment]]
    if brief.move is Move.DEBUG:
        mending = DebugProposal.model_validate(plain)
        return training.plan_experiments([mending.plan] if mending.plan else [], brief, desk.paths)
    return training.plan_experiments(TrainingProposal.model_validate(plain).plans, brief, desk.paths)


def _deliver(proposal: DeliveryProposal, state: RunState, desk: Desk, model: BaseModel) -> Plain:
    """A merge where it is asked for and the run may still start jobs; else the trained files as they are."""
    experiment = routing.experiments_of(state)[proposal.experiment]
    may_run = state.get("halt") not in ("cancelled", "failed") and routing.means_left(state)
    if proposal.merge and may_run and not routing.gave_up(state, Move.DELIVER):
        return _ask_for([delivery.merge_job(experiment, model, desk.paths)], routing.goal_of(state), desk)
    return hand_over(experiment, None, desk, routing.goal_of(state), model)


def hand_over(experiment: Experiment, merge: Job | None, desk: Desk, goal: Goal, model: BaseModel) -> Plain:
    folder = delivery.hand_over(experiment, merge, goal, model, desk.paths)
    desk.journal.note("champion", "champion", {"experiment": experiment.id, "model": str(folder)})
    desk.emit("note", text=f"the champion is {experiment.id}, saved in {folder}")
    return update(delivered=experiment.id, model=str(folder), pending=[])


def evaluator_carry_out(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Hold rows out, or ask for the evaluations."""
    desk = Desk.of(runtime)
    brief = brief_from(state)
    if brief.move is Move.HOLD_OUT:
        return _hold_out(HoldOutProposal.model_validate(state["proposal"]), brief, desk)
    proposal = EvaluationProposal.model_validate(state["proposal"])
    benchmarks = benchmarks_of(brief.goal)
    specs = [
        evaluation.evaluation_job(
            benchmarks[benchmark],
            proposal.parts,
            name=name,
            experiment=brief.experiments.get(name),
            delivered=state.get("model", "") if brief.move is Move.CONFIRM else "",
            model=model_of(brief.goal),
            goal=brief.goal,
            paths=desk.paths,
            seconds_an_item=scored.seconds_an_item(brief.results.values(), benchmark),
        )
        for name in proposal.experiments
        for benchmark in proposal.benchmarks
    ]
    return _ask_for(specs, brief.goal, desk)


def _hold_out(proposal: HoldOutProposal, brief: Brief, desk: Desk) -> Plain:
    """Set the rows aside that the run is measured on; the data engineer trains on the others."""
    # Before they are read: a change in between is found out later, too.
    files = digests(str(source.path) for source in to_train_on(brief.goal.data.train))
    goal, ids, total = rows_held_out(brief.goal, proposal, desk.paths.data, brief.method)
    held_out = [entry.plain() for entry in goal.benchmark]
    # The files as pairs: their order counts, and the journal sorts what has names.
    note = {"benchmarks": held_out, "rows": ids, "files": [*files.items()]}
    desk.journal.note("held_out", "held_out", note)
    desk.emit("note", text=f"{len(ids)} of {total} rows are held out to measure on, near-duplicates together")
    return update(held_out=held_out, benchmarks=described(benchmarks_of(goal), desk), pending=[])


def rows_held_out(goal: Goal, proposal: HoldOutProposal, folder: Path, method: str) -> tuple[Goal, list[str], int]:
    """The goal with the benchmarks that rows of its data make (files in `folder`), their ids, and how many rows it has.

    They measure what the method teaches. Raises BadInput where too few rows are there to hold some out.
    """
    rows = read_sources(goal.data.train)
    seed = goal.run.seed
    wanted = [row.label is not False for row in rows]
    chosen = hold_out.choose(near_duplicate_clusters(rows), proposal, seed=seed, measures=wanted)
    ids = [rows[position].id for position in chosen]
    parts = dict(zip(ids, chosen.values(), strict=True))
    # Letters are spread here too: rows in GPQA's columns come with the right choice first.
    shown, _ = balance_letters([rows[position] for position in chosen], seed)
    benchmarks = hold_out.write(
        [asdict(as_measured(render(row), layout_of(method))) for row in shown],
        {number: parts[row.id] for number, row in enumerate(shown)},
        folder,
        context=model_of(goal).config.get("max_position_embeddings"),
        method=method,
    )
    return goal.model_copy(update={"benchmark": benchmarks}), ids, len(rows)


def _ask_for(specs: list[JobSpec], goal: Goal, desk: Desk) -> Plain:
    """The jobs on their way to the door, each where the goal wants it to run."""
    if goal.run.on == "local":
        return update(pending=[taken_up(spec, desk) for spec in specs], finished=[])
    if goal.run.on == "api":
        return update(pending=[endpoint.served(spec, goal, desk.paths) for spec in specs], finished=[])
    flavors, model, token = desk.flavors(goal), model_of(goal), desk.has_token()
    there = [placed(spec, goal, flavors, model, token=token) for spec in specs]
    return update(pending=[taken_up(spec, desk) for spec in there], finished=[])
