"""What is published of a run, data sets and the model: what its jobs are, and what the model's card says."""

from __future__ import annotations

from collections.abc import Mapping

from agents.data_engineer.publishing import publisher
from agents.publishing.runner import PUBLISHER, fault_of_config
from agents.trainer import model_card
from agents.trainer import publish as model_publisher
from graph import routing
from graph.briefing import model_of
from graph.context import Desk
from graph.state import RunState
from shared_memory.goal import Goal
from shared_memory.records import ComparisonResult, DatasetRecord, EvalResult, Experiment, JobSpec


def is_of_a_model(spec: JobSpec) -> bool:
    return spec.config.get("kind") == "model"


def fault_of(spec: JobSpec) -> str:
    """Why a publication, which a person may have edited, cannot be carried out; empty if it can, or is none."""
    if spec.runner != PUBLISHER:
        return ""
    kind = model_publisher.ModelPublication if is_of_a_model(spec) else publisher.Publication
    return fault_of_config(spec, kind)


def told_anew(spec: JobSpec, desk: Desk) -> JobSpec:
    """An edited publication, with title, card and estimate of what it is now."""
    if is_of_a_model(spec):
        return model_publisher.told_anew(spec, desk.paths)
    return publisher.told_anew(spec, desk.journal.all(DatasetRecord), desk.paths)


def digests_of(state: RunState) -> dict[str, str]:
    """Benchmark → digest of what it is."""
    return {name: facts["digest"] for name, facts in state.get("benchmarks", {}).items()}


def model_facts(desk: Desk, goal: Goal, name: str, benchmarks: Mapping[str, str]) -> model_card.ModelFacts:
    """What the card of a delivered experiment says, from the run's journal; `benchmarks` are digests by name."""
    journal = desk.journal
    experiment = journal.all(Experiment)[name]
    results = journal.all(EvalResult).values()
    return model_card.facts_of(
        goal=goal,
        model=model_of(goal),
        experiment=experiment,
        dataset=journal.get(DatasetRecord, experiment.dataset),
        baseline=[result for result in results if result.experiment == routing.BASELINE],
        results=[result for result in results if result.experiment == name],
        claims=[claim for claim in journal.all(ComparisonResult).values() if claim.experiment == name],
        benchmarks=dict(benchmarks),
    )
