"""The trainer's rules: which experiments are next, what to do about a crash, and what is handed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import gcd
from pathlib import PurePath

from agents.brain import Brief, Move, Proposal
from agents.trainer.methods import smallest_batch
from agents.trainer.proposal import (
    AblationProposal,
    DebugProposal,
    DeliveryProposal,
    Plan,
    PushProposal,
    RetryProposal,
    TrainingProposal,
)
from shared_memory.recipes import WORDS, DistillRecipe, GrpoRecipe, Lora, Recipe, RlooRecipe, layout_of, title_of
from shared_memory.records import Experiment

NOT_MATHEMATICS = (*WORDS, "micro_batch")
"""Fields of a recipe that change nothing about what is learned."""
SAMPLING = (GrpoRecipe, RlooRecipe)
REWARDS = {"letter": "multiple_choice", "mathematics": "math_verify", "text": "exact_match"}
"""How a data set's answers are compared → the reward that does so."""


def propose(brief: Brief) -> Proposal:
    """Drafts from the recipes, best first; then single changes to the best experiment; at the end, the incumbent."""
    match brief.move:
        case Move.DRAFT:
            brief = fitted(brief)
            return _chosen(drafts(brief), brief, "every recipe has been tried")
        case Move.RETRY:
            return RetryProposal(experiment=brief.experiment, why="it has no trained model yet")
        case Move.DEBUG:
            return _debug(brief.experiments[brief.experiment], brief)
        case Move.ABLATE:
            why = "" if brief.variants else f"no part of {brief.experiment} is left to leave out"
            return AblationProposal(reference=brief.reference, variants=brief.variants[: brief.room], why=why)
        case Move.DELIVER:
            adapter = brief.experiments[brief.experiment].adapter
            return DeliveryProposal(experiment=brief.experiment, merge=adapter and "merged" in brief.goal.output.save)
        case Move.PUSH:
            return PushProposal(to=brief.goal.output.push_to, private=brief.goal.output.private)
        case _:
            return _chosen(_along_the_effects(_improvements(brief), brief), brief, "no single change is left to try")


def _chosen(plans: Iterable[Plan], brief: Brief, otherwise: str) -> TrainingProposal:
    new = _untried(plans, brief)
    return TrainingProposal(plans=new, why="" if new else otherwise)


def _untried(plans: Iterable[Plan], brief: Brief) -> tuple[Plan, ...]:
    """The first plans that there is room for and that nobody has tried."""
    tried = {(mathematics(experiment.recipe), experiment.dataset) for experiment in brief.experiments.values()}
    new: dict[tuple[str, str], Plan] = {}
    for plan in plans:
        attempt = (mathematics(plan.recipe), brief.data_for(plan.parent))
        if len(new) < brief.room and attempt not in tried:
            new.setdefault(attempt, plan)
    return tuple(new.values())


def mathematics(recipe: Recipe) -> str:
    """Equal for recipes that train in the same way."""
    return recipe.model_dump_json(exclude=set(NOT_MATHEMATICS))


def drafts(brief: Brief) -> Iterator[Plan]:
    """One plan for each recipe whose method the data set is laid out for."""
    layouts = {dataset.method for dataset in brief.datasets.values()}
    for recipe in (recipe for recipe in brief.recipes.values() if layout_of(recipe.method) in layouts):
        adapter = f"LoRA r{recipe.lora.r}" if recipe.lora else "all weights"
        change = f"{title_of(recipe.method)}, {adapter}, lr {recipe.learning_rate:g}, {recipe.epochs} epoch"
        change += _what_it_learns_from(recipe)
        yield Plan(parent="baseline", change=change, why=recipe.reason, recipe=recipe)


def fitted(brief: Brief) -> Brief:
    """The brief, with the reward that suits the answers in the data where a recipe names the most general one alone."""
    suiting = {REWARDS[dataset.answers] for dataset in brief.datasets.values() if dataset.answers}
    if len(suiting) != 1:
        return brief
    recipes = {
        name: recipe.model_copy(update={"rewards": tuple(suiting)})
        if isinstance(recipe, SAMPLING) and recipe.rewards == (REWARDS["text"],)
        else recipe
        for name, recipe in brief.recipes.items()
    }
    return replace(brief, recipes=recipes)


def _what_it_learns_from(recipe: Recipe) -> str:
    """Beside the rows, where there is anything."""
    if isinstance(recipe, SAMPLING):
        return f", rewarded by {' and '.join(recipe.rewards)}"
    if isinstance(recipe, DistillRecipe):
        return f", from {PurePath(recipe.teacher).name}"
    return ""


def _improvements(brief: Brief) -> Iterator[Plan]:
    """Single changes to the best experiment, the likeliest to help and the cheapest first."""
    parent = brief.experiments[brief.experiment]
    recipe = parent.recipe
    if brief.incumbent == "baseline":
        why = "it scored below the base model, and too high a learning rate is the usual way to lose what was known"
        yield _with(parent, why, learning_rate=_rate(recipe.learning_rate / 3))
    else:
        yield _one_more_epoch(parent)
    yield _with(parent, "the learning rate matters most of all numbers", learning_rate=_rate(2 * recipe.learning_rate))
    yield _with(parent, "the learning rate matters most of all numbers", learning_rate=_rate(recipe.learning_rate / 2))
    if recipe.lora is not None:
        lora = recipe.lora.model_copy(update={"r": 2 * recipe.lora.r, "alpha": 2 * recipe.lora.alpha})
        yield _with(parent, "an adapter of too low a rank cannot hold what the data teach", lora=lora)
    smaller = recipe.batch // 2
    if recipe.batch % 2 == 0 and smaller >= smallest_batch(recipe) and smaller % smallest_batch(recipe) == 0:
        why = "LoRA and small sets do better with small batches, which take more steps"
        yield _with(parent, why, batch=smaller, micro_batch=gcd(recipe.micro_batch, smaller))


def _one_more_epoch(parent: Experiment) -> Plan:
    """The cheapest single change: the optimizer has seen the data once, and small sets are far from learned by then."""
    epochs = parent.recipe.epochs + 1
    why = "the last epoch helped, so the data are not used up yet"
    if not parent.adapter:  # a job goes on from an adapter on the base, and from nothing else
        return _with(parent, why, epochs=epochs)
    return Plan(
        parent=parent.id,
        change=f"one more epoch from {parent.id}'s checkpoint ({parent.recipe.epochs} → {epochs})",
        why=why,
        recipe=parent.recipe.model_copy(update={"epochs": epochs}),
        continues=True,
    )


def _with(parent: Experiment, why: str, **change: object) -> Plan:
    """The parent with one thing changed, trained from the base model; a micro-batch follows its batch."""
    field = next(iter(change))
    recipe = parent.recipe.model_copy(update=change)
    old, new = (_shown(getattr(entry, field)) for entry in (parent.recipe, recipe))
    return Plan(
        parent=parent.id, change=f"{parent.id} with {field.replace('_', ' ')} {old} → {new}", why=why, recipe=recipe
    )


def _along_the_effects(plans: Iterable[Plan], brief: Brief) -> list[Plan]:
    """The plans with the most promising first, as far as measured effects tell; otherwise in the order given.

    First what goes on in a direction that was worth something, the largest (shrunken) effect first; then what nobody
    has measured; then parts that turned out to be worth nothing; last the direction that did harm.
    """
    parent = brief.experiments[brief.experiment].recipe
    return sorted(plans, key=lambda plan: _promise(parent, plan.recipe, brief))


def _promise(parent: Recipe, recipe: Recipe, brief: Brief) -> tuple[int, float]:
    """Where a change stands among others; smaller comes first."""
    known = [
        (effect, effect.shrunken if effect.raised == raised else -effect.shrunken)
        for effect in (brief.effects.effects if brief.effects else ())
        if effect.raised is not None and (raised := _raises(effect.part, parent, recipe)) is not None
    ]
    if not known:
        return 1, 0.0
    effect, gain = max(known, key=lambda entry: abs(entry[1]))
    if not effect.matters:
        return 2, 0.0
    return (0, -gain) if gain > 0 else (3, -gain)


def _raises(field: str, old: Recipe, new: Recipe) -> bool | None:
    """Whether the second recipe has the larger number there; None where it has the same, or no number."""
    before, after = (getattr(recipe, field, None) for recipe in (old, new))
    if isinstance(before, Lora) and isinstance(after, Lora):
        before, after = before.r, after.r
    if isinstance(before, int | float) and isinstance(after, int | float) and before != after:
        return after > before
    return None


def _debug(crashed: Experiment, brief: Brief) -> DebugProposal:
    """The way out that the diagnosis points to; the brief's limits on how often have been checked by the router."""
    kind = crashed.diagnosis.kind if crashed.diagnosis else "unknown"
    recipe = crashed.recipe
    rates = (_rate(recipe.learning_rate / factor) for factor in (3, 10))
    calmer = [_with(crashed, "its loss diverged", learning_rate=rate) for rate in rates if kind == "diverged"]
    if plans := _untried(calmer, brief):
        return DebugProposal(experiment=crashed.id, plan=plans[0], why="its loss diverged")
    return DebugProposal(experiment=crashed.id, why="the rules know no remedy for this failure")


def _rate(value: float) -> float:
    """A learning rate as a person writes it, in three digits."""
    return float(f"{value:.3g}")


def _shown(value: object) -> str:
    if isinstance(value, Lora):
        return f"r{value.r}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
