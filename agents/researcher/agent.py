"""The researcher with a language model: it reads, files what it finds, and proposes recipes that rest on that."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from agents import prompting
from agents.brain import Brief, Proposal
from agents.researcher import playbook
from agents.researcher.findings import Notebook
from agents.researcher.proposal import Evidence, ResearchProposal, facts_of, with_recipes_of
from agents.researcher.team import limited
from agents.researcher.tools import tools
from agents.workbench import Workbench
from shared_memory.errors import BadInput
from shared_memory.recipes import DistillRecipe
from shared_memory.records import Finding, Recipe

PROMPTS = Path(__file__).parent / "prompts"


def propose(brief: Brief, bench: Workbench) -> Proposal:
    """The model's proposal, which names as checked only what is.

    A model remembers sources, and invents some: what neither the library holds nor was read is marked as unverified.
    """
    findings, recipes = _library(brief)
    bench, notebook = limited(bench), Notebook(bench.outputs)
    evidence = Evidence(findings, recipes, notebook, bench.model.name)
    library = facts_of(findings, recipes)
    kind = with_recipes_of(_methods(brief))
    said = prompting.propose(
        brief, bench, kind, PROMPTS, partial(_fault, evidence=evidence), tools(bench, notebook), library=library
    )
    proposal = ResearchProposal.model_validate(said.plain())
    found = evidence.findings(proposal.findings, proposal.recipes)
    return ResearchProposal(findings=found, recipes=evidence.recipes(proposal.recipes, found))


def _fault(proposal: ResearchProposal, brief: Brief, evidence: Evidence) -> str:
    """Why a proposal cannot be carried out; empty if it can."""
    methods = _methods(brief)
    for recipe in proposal.recipes:
        if recipe.method not in methods or recipe.method != proposal.recipes[0].method:
            return f"recipe {recipe.id}: the method must be one of {methods}, the same for all recipes"
        if isinstance(recipe, DistillRecipe) and recipe.teacher != brief.goal.distill_from:
            return f"recipe {recipe.id}: the goal names the teacher, {brief.goal.distill_from!r}"
    return evidence.fault(proposal.findings, proposal.recipes)


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
