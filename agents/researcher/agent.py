"""The researcher with a language model: what it may propose, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

from agents import prompting
from agents.brain import Brief, Proposal
from agents.researcher import playbook
from agents.researcher.proposal import ResearchProposal, with_recipes_of
from agents.workbench import Workbench
from shared_memory.errors import BadInput
from shared_memory.recipes import DistillRecipe
from shared_memory.records import Finding, Recipe

PROMPTS = Path(__file__).parent / "prompts"
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.-]{0,47}")


def propose(brief: Brief, bench: Workbench) -> Proposal:
    """The model's proposal, which names as checked only what is.

    A model without tools remembers sources, and invents some: what the library does not hold is marked as unverified.
    """
    findings, recipes = _library(brief)
    library = [record.plain() for record in (*findings.values(), *recipes.values())]
    kind = with_recipes_of(_methods(brief))
    said = prompting.propose(brief, bench, kind, PROMPTS, fault, library=library)
    proposal = ResearchProposal.model_validate(said.plain())
    told = f"unverified, from {bench.model.name}'s memory"
    return ResearchProposal(
        findings=tuple(
            findings.get(each.id) or each.model_copy(update={"source": f"{told}: {each.source}", "confidence": "low"})
            for each in proposal.findings
        ),
        recipes=tuple(recipes.get(each.id) or each.model_copy(update={"source": told}) for each in proposal.recipes),
    )


def fault(proposal: ResearchProposal, brief: Brief) -> str:
    """Why a proposal cannot be carried out; empty if it can."""
    _, known = _library(brief)
    methods = _methods(brief)
    names = [each.id for each in proposal.findings] + [each.id for each in proposal.recipes]
    for name in names:
        if not IDENTIFIER.fullmatch(name) or names.count(name) > 1:
            return f"the id {name!r} is used twice, or is not lower-case letters, digits, dots and hyphens"
    cited = {finding.id for finding in proposal.findings}
    for recipe in proposal.recipes:
        if recipe.method not in methods or recipe.method != proposal.recipes[0].method:
            return f"recipe {recipe.id}: the method must be one of {methods}, the same for all recipes"
        if recipe.batch % recipe.micro_batch:
            return f"recipe {recipe.id}: micro_batch {recipe.micro_batch} does not divide batch {recipe.batch}"
        if isinstance(recipe, DistillRecipe) and recipe.teacher != brief.goal.distill_from:
            return f"recipe {recipe.id}: the goal names the teacher, {brief.goal.distill_from!r}"
        if not set(recipe.findings) <= cited:
            return f"recipe {recipe.id} names findings that are not among yours"
        if recipe.id in known and recipe != known[recipe.id]:
            return f"recipe {recipe.id} differs from the library's; give what you changed an id of its own"
    return ""


def _methods(brief: Brief) -> list[str]:
    """Those that the goal allows, and its rows can train; what scores instead of answering is asked for by name."""
    return [brief.goal.method] if brief.goal.method != "auto" else sorted({"sft", *brief.trains} - {"reward"})


def _library(brief: Brief) -> tuple[dict[str, Finding], dict[str, Recipe]]:
    """The built-in findings and recipes that fit; none where the library knows nothing of such a goal."""
    try:
        built_in = playbook.propose(brief)
    except BadInput:
        return {}, {}
    return {each.id: each for each in built_in.findings}, {each.id: each for each in built_in.recipes}
