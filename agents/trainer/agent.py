"""The trainer with a language model: what it may propose, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from agents import programs, prompting
from agents.brain import Brief, Move, Proposal
from agents.jobs.hardware import local_hardware
from agents.trainer import playbook
from agents.trainer.playbook import NOT_MATHEMATICS, mathematics
from agents.trainer.proposal import (
    AblationChoice,
    AblationProposal,
    DebugProposal,
    DeliveryProposal,
    Plan,
    RetryProposal,
    TrainingProposal,
    with_recipes_of,
)
from agents.trainer.tools import tools_of
from agents.workbench import Workbench
from shared_memory.goal import Goal
from shared_memory.records import Lora, Recipe

PROMPTS = Path(__file__).parent / "prompts"
PROPOSALS: dict[Move, type[Proposal]] = {
    Move.DRAFT: TrainingProposal,
    Move.RETRY: RetryProposal,
    Move.DEBUG: DebugProposal,
    Move.IMPROVE: TrainingProposal,
    Move.ABLATE: AblationChoice,
    Move.DELIVER: DeliveryProposal,
}


def propose(brief: Brief, bench: Workbench) -> Proposal:
    """The model's proposal, each plan told as what it really changes: its title is what a person approves by."""
    if brief.move is Move.PUSH or (brief.move is Move.ABLATE and not brief.variants):  # there is nothing to choose
        return playbook.propose(brief)
    kind = PROPOSALS[brief.move]
    brief = playbook.fitted(brief) if brief.move is Move.DRAFT else brief
    recipes = with_recipes_of(_method_of(brief), kind)
    tools = tools_of(brief, bench)
    said = prompting.propose(brief, bench, recipes, PROMPTS, fault, tools, **_measured(brief))
    proposal = kind.model_validate(said.plain())
    if isinstance(proposal, AblationChoice):
        chosen = tuple(variant for variant in brief.variants if variant.part in proposal.parts)
        return AblationProposal(reference=brief.reference, variants=chosen, why=proposal.why)
    if isinstance(proposal, TrainingProposal):
        told = tuple(_told(plan, brief, bench.model.name) for plan in proposal.plans)
        return proposal.model_copy(update={"plans": told})
    if isinstance(proposal, DebugProposal) and proposal.plan is not None:
        return proposal.model_copy(update={"plan": _told(proposal.plan, brief, bench.model.name)})
    return proposal


def _measured(brief: Brief) -> dict[str, Any]:
    """What is known of the worth of the incumbent's parts, and what else could be found out."""
    shown = {"part", "change", "given", "other", "delta", "stderr", "p_holm", "shrunken"}
    effects = brief.effects.effects if brief.effects else ()
    return {
        "variants": {variant.part: variant.change for variant in brief.variants},
        "effects": [{**effect.model_dump(include=shown), "matters": effect.matters} for effect in effects],
    }


def _method_of(brief: Brief) -> str:
    """The one that all recipes of a run have."""
    recipe = next(iter(brief.recipes.values()), None)
    return recipe.method if recipe else brief.method


def fault(proposal: Proposal, brief: Brief) -> str:
    """Why a proposal cannot be carried out; empty if it can."""
    if isinstance(proposal, TrainingProposal):
        return _fault_of_plans(proposal.plans, brief)
    if isinstance(proposal, DebugProposal):
        return _fault_of_mending(proposal, brief)
    if isinstance(proposal, AblationChoice):
        return _fault_of_choice(proposal.parts, brief)
    rules = playbook.propose(brief).plain()
    other = [key for key, value in proposal.plain().items() if key != "why" and value != rules[key]]
    return "; ".join(f"`{key}` must be {rules[key]!r}" for key in other)


def _fault_of_choice(parts: tuple[str, ...], brief: Brief) -> str:
    foreign = [part for part in parts if part not in {variant.part for variant in brief.variants}]
    if foreign:
        return f"{foreign[0]!r} is not among the parts that can be varied: {[each.part for each in brief.variants]}"
    if len(set(parts)) > brief.room:
        return f"there is room for {brief.room} parts, and these are {len(set(parts))}"
    return ""


def _fault_of_mending(proposal: DebugProposal, brief: Brief) -> str:
    if proposal.experiment != brief.experiment:
        return f"`experiment` must be {brief.experiment!r}"
    return _fault_of_plans((proposal.plan,), brief) if proposal.plan else ""


def _fault_of_plans(plans: tuple[Plan, ...], brief: Brief) -> str:
    if len(plans) > brief.room:
        return f"there is room for {brief.room} plans, and these are {len(plans)}"
    tried = {name: (mathematics(each.recipe), each.dataset, each.script) for name, each in brief.experiments.items()}
    for number, plan in enumerate(plans):
        reason = _fault_of_draft(plan, brief) if brief.move is Move.DRAFT else _fault_of_child(plan, brief)
        reason = reason or (_fault_of_script(plan.script, brief.goal) if plan.script else "")
        attempt = (mathematics(plan.recipe), brief.data_for(plan.parent), _script_of(plan, brief))
        again = [name for name, other in tried.items() if other == attempt]
        if not reason and again:
            reason = f"{again[0]} has trained that already"
        if reason:
            return f"plan {number + 1}: {reason}"
        tried[f"plan {number + 1}"] = attempt
    return ""


def _script_of(plan: Plan, brief: Brief) -> str:
    """Digest of the script that a plan is trained by; empty for ours, or the goal's."""
    if plan.script:
        return hashlib.sha256(plan.script.encode()).hexdigest()
    return brief.experiments[plan.parent].script if plan.parent in brief.experiments else ""


def _fault_of_script(script: str, goal: Goal) -> str:
    """Why a training script of the model's own cannot be taken; empty if it can. What it does is a person's to see."""
    if goal.run.script:
        return "the goal names the training script: leave `script` empty"
    if goal.run.on != "local" or (goal.run.flavor != "cpu" and local_hardware().gpus):
        return "a program of a model's own runs in a sandbox of this machine, without a GPU: leave `script` empty"
    return programs.fault(script)


def _fault_of_draft(plan: Plan, brief: Brief) -> str:
    if plan.parent != "baseline" or plan.continues:
        return "a draft starts from the base model: `parent` is 'baseline' and `continues` is false"
    usable = {each.recipe.id: mathematics(each.recipe) for each in playbook.drafts(brief)}
    if usable.get(plan.recipe.id) != mathematics(plan.recipe):
        return f"a draft takes one of the recipes that fit the data, as it is: {', '.join(usable)}"
    return ""


def _fault_of_child(plan: Plan, brief: Brief) -> str:
    if plan.parent != brief.experiment:
        return f"`parent` must be {brief.experiment!r}"
    parent, recipe = brief.experiments[plan.parent], plan.recipe
    changed = _changed(parent.recipe, recipe)
    changed += ["script"] if plan.script and _script_of(plan, brief) != parent.script else []
    if len(changed) != 1 or "method" in changed:
        return f"one thing is changed at a time, the method aside, and this changes {', '.join(changed) or 'nothing'}"
    if recipe.batch % recipe.micro_batch:
        return f"micro_batch {recipe.micro_batch} does not divide batch {recipe.batch}"
    if "teacher" in changed:
        return "the teacher is the goal's to name, and stays"
    if plan.continues and not (changed == ["epochs"] and recipe.epochs > parent.recipe.epochs and parent.model):
        return "`continues` goes with more epochs of a trained parent, and with nothing else"
    if plan.continues and not parent.adapter:
        return "`continues` goes on from an adapter, and all weights of the parent were trained"
    return ""


def _told(plan: Plan, brief: Brief, model: str) -> Plan:
    """The plan in words of ours, on the recipe that it comes from."""
    by = f", by a script that {model} wrote"
    if brief.move is Move.DRAFT:
        draft = next(each for each in playbook.drafts(brief) if each.recipe.id == plan.recipe.id)
        change = draft.change + (by if plan.script else "")
        return draft.model_copy(update={"why": plan.why, "script": plan.script, "change": change})
    base = brief.experiments[plan.parent].recipe
    changed = _changed(base, plan.recipe)
    if not changed:
        return plan.model_copy(update={"change": plan.parent + by, "recipe": base})
    (field,) = changed
    old, new = (_shown(getattr(recipe, field)) for recipe in (base, plan.recipe))
    change = f"{plan.parent} with {field.replace('_', ' ')} {old} → {new}"
    if plan.continues:
        change += ", from its checkpoint"
    words = {key: getattr(base, key) for key in NOT_MATHEMATICS if key != "micro_batch"}
    return plan.model_copy(update={"change": change, "recipe": plan.recipe.model_copy(update=words)})


def _changed(old: Recipe, new: Recipe) -> list[str]:
    if old.method != new.method:
        return ["method"]
    fields = (field for field in type(old).model_fields if field not in NOT_MATHEMATICS)
    return [field for field in fields if getattr(old, field) != getattr(new, field)]


def _shown(value: object) -> str:
    if isinstance(value, Lora):
        return f"r{value.r} α{value.alpha} dropout {value.dropout:g} on {value.target_modules}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
