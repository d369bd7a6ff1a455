"""What a role's proposal comes to: deterministic, and safe to do again after a crash.

Each of these nodes calls its role's craft; every write to the journal is an upsert, so a node that runs again changes
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from langgraph.runtime import Runtime

from agents.base_model import BaseModel
from agents.brain import Brief, Move
from agents.data_engineer import prepare as data_engineer
from agents.data_engineer.duplicates.dedup import near_duplicate_clusters
from agents.data_engineer.filters import balance_letters
from agents.data_engineer.formats.tables import read_sources
from agents.data_engineer.held_out import HeldOut, digests
from agents.data_engineer.prepare import render
from agents.data_engineer.proposal import DataProposal, PublishProposal
from agents.data_engineer.publishing import publisher
from agents.data_engineer.reading.sources import to_train_on
from agents.evaluator import evaluation, hold_out
from agents.evaluator.proposal import EvaluationProposal, HoldOutProposal
from agents.researcher.proposal import ResearchProposal
from agents.trainer import delivery, training
from agents.trainer.proposal import DebugProposal, DeliveryProposal, TrainingProposal
from graph import routing, synthesis
from graph.briefing import benchmarks_of, brief_from, described, model_of
from graph.clean_hands import texts_to_look_for
from graph.context import Context, Desk
from graph.state import Plain, RunState, update
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import DatasetRecord, Experiment, Job, JobSpec


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
        return _ask_for([synthesis.generation_job(proposal.generate, synthesis.data_brief(state, desk), desk)])
    note = desk.held_out
    held_out = (
        HeldOut(benchmark=goal.primary.id, rows=note["rows"], files=dict(note.get("files", ()))) if note else None
    )
    dataset = data_engineer.prepare(
        proposal,
        benchmarks=[] if state.get("held_out") else texts_to_look_for(goal),
        folder=desk.paths.data,
        seed=goal.run.seed,
        held_out=held_out,
        on_contamination=goal.rules.contaminated,
        weights=_weights(goal, proposal.sources),
    )
    desk.journal.put(dataset, id=dataset.id)
    dropped = ", ".join(
        f"{step.name} −{step.rows_in - step.rows_out}" for step in dataset.steps if step.rows_in > step.rows_out
    )
    desk.emit("note", text=f"data set {dataset.id}: {dataset.rows} rows ({dropped or 'nothing dropped'})")
    return update(datasets={dataset.id: dataset}, pending=[])


def _publish(proposal: PublishProposal, state: RunState, desk: Desk) -> Plain:
    """Ask for the publication; what may not be shared is told, and not asked for."""
    record = DatasetRecord.model_validate(state["datasets"][proposal.dataset])
    try:
        return _ask_for([publisher.publishing_job(record, proposal.to, private=proposal.private, paths=desk.paths)])
    except BadInput as refused:
        desk.emit("note", text=f"the training data are not published: {refused}")
        return update(exhausted=[*state.get("exhausted", []), routing.exhausted(Move.PUBLISH, "")], pending=[])


def _weights(goal: Goal, sources: Sequence[str]) -> dict[str, float] | None:
    """Source → its share, as the goal mixes its own; a file that was written for it counts as much as these on average.

    None where all rows are taken as they are.
    """
    given = goal.data.weights
    if not given:
        return None
    written = [sum(given) / len(given)] * (len(sources) - len(given))
    return dict(zip(sources, (*given, *written), strict=True))


def trainer_carry_out(state: RunState, runtime: Runtime[Context]) -> Plain:
    """Ask for the training of new or reopened experiments, or for what handing a model over needs."""
    desk = Desk.of(runtime)
    brief = brief_from(state)
    model = model_of(brief.goal)
    if brief.move is Move.DELIVER:
        delivered = DeliveryProposal.model_validate(state["proposal"])
        return _deliver(delivered, state, desk, model)
    experiments = _experiments_to_train(state["proposal"], brief)
    if not experiments:
        gone = routing.exhausted(brief.move, brief.experiment or routing.BASELINE)
        return update(exhausted=[*state.get("exhausted", []), gone], pending=[])
    for experiment in experiments:
        desk.journal.put(experiment, id=experiment.id)
    specs = [
        training.training_job(
            experiment,
            parent=brief.experiments.get(experiment.parent),
            dataset=brief.datasets[experiment.dataset],
            model=model,
            goal=brief.goal,
            paths=desk.paths,
            measured=training.measured_rate(brief.experiments.values()),
            gflops=desk.gflops(),
        )
        for experiment in experiments
    ]
    return {**_ask_for(specs), **update(experiments={experiment.id: experiment for experiment in experiments})}


def _experiments_to_train(plain: Plain, brief: Brief) -> list[Experiment]:
    """What a proposal comes to: known experiments as they are or in less memory, or new ones; none if it gives up."""
    if brief.move is Move.RETRY:
        return [brief.experiments[brief.experiment]]
    if brief.move is Move.DEBUG:
        mending = DebugProposal.model_validate(plain)
        if mending.micro_batch is not None:
            return [training.in_less_memory(brief.experiments[brief.experiment], mending.micro_batch)]
        return training.plan_experiments([mending.plan] if mending.plan else [], brief)
    return training.plan_experiments(TrainingProposal.model_validate(plain).plans, brief)


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
    """Hold rows out, or ask for the evaluations."""
    desk = Desk.of(runtime)
    brief = brief_from(state)
    if brief.move is Move.HOLD_OUT:
        return _hold_out(HoldOutProposal.model_validate(state["proposal"]), brief, desk)
    proposal = EvaluationProposal.model_validate(state["proposal"])
    benchmarks = benchmarks_of(brief.goal)
    return _ask_for(
        [
            evaluation.evaluation_job(
                benchmarks[benchmark],
                proposal.parts,
                name=name,
                experiment=brief.experiments.get(name),
                delivered=state.get("model", "") if brief.move is Move.CONFIRM else "",
                model=model_of(brief.goal),
                goal=brief.goal,
                paths=desk.paths,
                seconds_an_item=evaluation.seconds_an_item(brief.results.values(), benchmark),
            )
            for name in proposal.experiments
            for benchmark in proposal.benchmarks
        ]
    )


def _hold_out(proposal: HoldOutProposal, brief: Brief, desk: Desk) -> Plain:
    """Set the rows aside that the run is measured on; the data engineer trains on the others."""
    # Before they are read: a change in between is found out later, too.
    files = digests(str(source.path) for source in to_train_on(brief.goal.data.train))
    goal, ids, total = rows_held_out(brief.goal, proposal, desk.paths.data)
    held_out = [entry.plain() for entry in goal.benchmark]
    # The files as pairs: their order counts, and the journal sorts what has names.
    note = {"benchmarks": held_out, "rows": ids, "files": [*files.items()]}
    desk.journal.note("held_out", "held_out", note)
    desk.emit("note", text=f"{len(ids)} of {total} rows are held out to measure on, near-duplicates together")
    return update(held_out=held_out, benchmarks=described(benchmarks_of(goal), desk), pending=[])


def rows_held_out(goal: Goal, proposal: HoldOutProposal, folder: Path) -> tuple[Goal, list[str], int]:
    """The goal with the benchmarks that rows of its data make (files in `folder`), their ids, and how many rows it has.

    Raises BadInput where too few rows are there to hold some out.
    """
    rows = read_sources(goal.data.train)
    seed = goal.run.seed
    chosen = hold_out.choose(near_duplicate_clusters(rows), proposal, seed=seed)
    ids = [rows[position].id for position in chosen]
    parts = dict(zip(ids, chosen.values(), strict=True))
    # Letters are spread here too: rows in GPQA's columns come with the right choice first.
    shown, _ = balance_letters([rows[position] for position in chosen], seed)
    benchmarks = hold_out.write(
        [asdict(render(row)) for row in shown],
        {number: parts[row.id] for number, row in enumerate(shown)},
        folder,
        context=model_of(goal).config.get("max_position_embeddings"),
    )
    return goal.model_copy(update={"benchmark": benchmarks}), ids, len(rows)


def _ask_for(specs: list[JobSpec]) -> Plain:
    return update(pending=specs, finished=[])
