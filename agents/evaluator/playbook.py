"""The evaluator's rules: what a model is scored on, and when."""

from __future__ import annotations

from agents.brain import Brief, Move
from agents.evaluator.proposal import EvaluationProposal, HoldOutProposal
from shared_memory.records import Part


def propose(brief: Brief) -> EvaluationProposal | HoldOutProposal:
    """The baseline on all items; a candidate on the selection items only; the champion once on the report items.

    A candidate never meets the report items: the best of ten equal checkpoints looks 5 points better than it is on
    the 200 items that chose it (winner's curse).
    """
    if brief.move is Move.HOLD_OUT:
        return HoldOutProposal(why="the goal names no benchmark, and rows that were trained on measure nothing")
    every = brief.unmeasured or tuple(entry.id for entry in brief.goal.benchmark)
    if brief.move is Move.BASELINE:
        why = "what the base model can do is the measure of everything after it"
        return EvaluationProposal(experiments=("baseline",), benchmarks=every, parts=tuple(Part), why=why)
    if brief.move is Move.CANDIDATE:
        why = "selection items steer the search"
        return EvaluationProposal(
            experiments=brief.unscored, benchmarks=(brief.goal.primary.id,), parts=(Part.SELECTION,), why=why
        )
    why = "the one claim is made on items that chose nothing"
    return EvaluationProposal(experiments=(brief.experiment,), benchmarks=every, parts=(Part.REPORT,), why=why)
