"""The trainer's rules: which experiment is next, and what is handed over."""

from __future__ import annotations

from agents.brain import Brief, Move, Proposal
from agents.trainer.proposal import DeliveryProposal, RetryProposal, TrainingProposal
from shared_memory.records import Experiment


def propose(brief: Brief) -> Proposal:
    """A first experiment from the best recipe, then one more epoch as long as it helps; at the end, the incumbent."""
    if brief.move is Move.DRAFT:
        return _draft(brief)
    if brief.move is Move.DEBUG:
        return RetryProposal(experiment=brief.experiment, why="it has no trained model yet")
    if brief.move is Move.DELIVER:
        adapter = brief.experiments[brief.experiment].adapter
        return DeliveryProposal(experiment=brief.experiment, merge=adapter and "merged" in brief.goal.output.save)
    return _one_more_epoch(brief.experiments[brief.experiment])


def _draft(brief: Brief) -> TrainingProposal:
    recipe = next(iter(brief.recipes.values()))
    adapter = f"LoRA r{recipe.lora.r}" if recipe.lora else "all weights"
    return TrainingProposal(
        parent="baseline",
        change=f"{recipe.method.upper()}, {adapter}, lr {recipe.learning_rate:g}, {recipe.epochs} epoch",
        why=recipe.reason,
        recipe=recipe,
    )


def _one_more_epoch(parent: Experiment) -> TrainingProposal:
    """The cheapest single change: the optimizer has seen the data once, and small sets are far from learned by then."""
    epochs = parent.recipe.epochs + 1
    return TrainingProposal(
        parent=parent.id,
        change=f"one more epoch from {parent.id}'s checkpoint ({parent.recipe.epochs} → {epochs})",
        why="the last epoch raised the selection score, so the data are not used up yet",
        recipe=parent.recipe.model_copy(update={"epochs": epochs}),
        continues=True,
    )
