"""The data sets of a run: the one that it trains on, and the same without a part of its making."""

from __future__ import annotations

from collections.abc import Sequence

from agents.data_engineer.held_out import HeldOut
from agents.data_engineer.prepare import prepare
from agents.data_engineer.proposal import DataProposal
from agents.data_engineer.remake import make_again
from graph.clean_hands import texts_to_look_for
from graph.context import Desk
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import DatasetRecord


def made(proposal: DataProposal, goal: Goal, desk: Desk, *, is_held_out: bool) -> DatasetRecord:
    """The data set that a proposal asks for, searched for every benchmark item. Raises BadInput as `prepare` does."""
    return prepare(
        proposal,
        benchmarks=[] if is_held_out else texts_to_look_for(goal),
        folder=desk.paths.data,
        seed=goal.run.seed,
        held_out=_held_out(goal, desk),
        on_contamination=goal.rules.contaminated,
        weights=_weights(goal, proposal.sources),
    )


def without(
    parts: Sequence[str], datasets: dict[str, DatasetRecord], source: str, goal: Goal, desk: Desk, *, is_held_out: bool
) -> DatasetRecord:
    """The data set `source` without some parts of its making: one that is there already, or made now.

    Raises BadInput where it cannot be made again, or comes out the same: then the parts had no hand in it.
    """
    original = datasets[source]
    known = (each for each in datasets.values() if each.making == original.making and set(each.without) == set(parts))
    if found := next(known, None):
        return found
    variant = make_again(
        original,
        parts,
        benchmarks=[] if is_held_out else texts_to_look_for(goal),
        folder=desk.paths.data,
        seed=goal.run.seed,
        dataset_id=f"d{len(datasets) + 1}",
        held_out=_held_out(goal, desk),
        on_contamination=goal.rules.contaminated,
    )
    if variant.digest in {each.digest for each in datasets.values()}:
        raise BadInput("the rows come out the same, so it is worth nothing")
    return variant


def file(dataset: DatasetRecord, desk: Desk) -> None:
    """Put it on record, and tell what became of its rows."""
    desk.journal.put(dataset, id=dataset.id)
    dropped = ", ".join(
        f"{step.name} −{step.rows_in - step.rows_out}" for step in dataset.steps if step.rows_in > step.rows_out
    )
    desk.emit("note", text=f"data set {dataset.id}: {dataset.rows} rows ({dropped or 'nothing dropped'})")


def _held_out(goal: Goal, desk: Desk) -> HeldOut | None:
    note = desk.held_out
    if not note:
        return None
    return HeldOut(benchmark=goal.primary.id, rows=note["rows"], files=dict(note.get("files", ())))


def _weights(goal: Goal, sources: Sequence[str]) -> dict[str, float] | None:
    """Source → its share, as the goal mixes its own; a file that was written for it counts as much as these on average.

    None where all rows are taken as they are.
    """
    given = goal.data.weights
    if not given:
        return None
    written = [sum(given) / len(given)] * (len(sources) - len(given))
    return dict(zip(sources, (*given, *written), strict=True))
