"""What of the incumbent can be varied, what is known of the worth of its parts, and the experiments that tell more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agents.brain import Brief, Move
from agents.data_engineer.leaving_out import variants_of
from agents.evaluator import ablations, effects
from agents.evaluator.scored import item_scores
from agents.trainer import training
from agents.trainer.proposal import AblationProposal
from graph import datasets, routing
from graph.briefing import benchmarks_of, brief_from
from graph.context import Desk
from graph.state import RunState
from shared_memory.ablations import EffectTable, Variant
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import DatasetRecord, EvalResult, Experiment, Part

SKIPPED = "not ablated"
"""Kind of the notes on variants that cannot be had, or would change nothing: what `given_up` calls it → why."""


def trainer_brief(state: RunState) -> Brief:
    """What the trainer is shown; where it works on the incumbent, with the worth of its parts as far as it is known."""
    brief = brief_from(state)
    if brief.move not in (Move.IMPROVE, Move.ABLATE) or brief.incumbent not in brief.experiments:
        return brief
    reference = ablations.reference_of(brief.incumbent, brief.experiments)
    return replace(
        brief,
        reference=reference,
        variants=left_to_vary(reference, brief, state) if brief.move is Move.ABLATE else (),
        effects=effects_of(brief.incumbent, brief.goal, brief.experiments, brief.datasets, brief.results),
    )


def left_to_vary(reference: str, brief: Brief, state: RunState) -> tuple[Variant, ...]:
    """The variants of an experiment that leave one part of it out, and that nobody has tried yet."""
    experiment = brief.experiments[reference]
    every = ablations.leave_one_out(
        experiment, brief.experiments, brief.recipes, variants_of(brief.datasets[experiment.dataset])
    )
    return tuple(
        variant
        for variant in ablations.untried(every, reference, brief.experiments, brief.datasets)
        if not routing.is_exhausted(state, Move.ABLATE, given_up(reference, variant))
    )


def given_up(reference: str, variant: Variant) -> str:
    """What a variant that cannot be had is remembered as."""
    return f"{reference} {variant.change}"


def effects_of(
    champion: str,
    goal: Goal,
    experiments: Mapping[str, Experiment],
    datasets: Mapping[str, DatasetRecord],
    results: Mapping[str, EvalResult],
) -> EffectTable:
    """What the scores on the selection items say of the champion's parts; an empty table where there are none."""
    benchmark = benchmarks_of(goal)[goal.primary.id]
    scored = {
        result.experiment: result
        for result in results.values()
        if result.benchmark == benchmark.name and result.part is Part.SELECTION and Path(result.items).is_file()
    }
    best = scored.get(champion)
    if best is None:
        return EffectTable(champion=champion)
    scores = {
        name: item_scores(result, benchmark)
        for name, result in scored.items()
        if result.settings_digest == best.settings_digest
    }
    return effects.table(
        champion,
        experiments,
        datasets,
        scores,
        unit=best.unit,
        higher_is_better=best.higher_is_better,
        clusters={item.id: item.cluster for item in benchmark.items if item.cluster} or None,
        seed=goal.run.seed,
    )


def to_train(
    proposal: AblationProposal, brief: Brief, known: dict[str, DatasetRecord], desk: Desk, *, is_held_out: bool
) -> tuple[list[Experiment], list[str]]:
    """The experiments that an ablation comes to, and those of its variants that cannot be had, as exhausted.

    Data sets that these need are made, put on record, and added to the `known` ones.
    """
    experiments: list[Experiment] = []
    gone: list[str] = []
    for number, variant in enumerate(proposal.variants):
        reference = brief.experiments[proposal.reference]
        name = proposal.ids[number] if proposal.ids else f"e{len(brief.experiments) + len(experiments) + 1}"
        try:
            dataset = known[reference.dataset]
            if variant.without:
                dataset = datasets.without(
                    variant.without, known, reference.dataset, brief.goal, desk, is_held_out=is_held_out
                )
            experiments.append(training.ablated(reference, variant, name=name, dataset=dataset.id))
        except BadInput as error:
            desk.emit("note", text=f"{reference.id} {variant.change} is not tried: {error}")
            desk.journal.note(SKIPPED, given_up(reference.id, variant), str(error))
            gone.append(routing.exhausted(Move.ABLATE, given_up(reference.id, variant)))
            continue
        if dataset.id not in known:
            known[dataset.id] = dataset
            datasets.file(dataset, desk)
    return experiments, gone
