"""The evaluator with a language model: what it may propose, and what is refused."""

from __future__ import annotations

from pathlib import Path

from agents import prompting
from agents.brain import Brief, Move, Proposal
from agents.evaluator import playbook
from agents.evaluator.proposal import EvaluationProposal, HoldOutProposal
from agents.evaluator.tools import tools_of
from agents.workbench import Workbench

PROMPTS = Path(__file__).parent / "prompts"
PROPOSALS: dict[Move, type[Proposal]] = {
    Move.HOLD_OUT: HoldOutProposal,
    Move.BASELINE: EvaluationProposal,
    Move.CANDIDATE: EvaluationProposal,
    Move.CONFIRM: EvaluationProposal,
}


def propose(brief: Brief, bench: Workbench) -> Proposal:
    """The model's proposal."""
    rules = playbook.propose(brief).plain()
    return prompting.propose(brief, bench, PROPOSALS[brief.move], PROMPTS, fault, tools_of(brief), rules=rules)


def fault(proposal: Proposal, brief: Brief) -> str:
    """Why a proposal cannot be carried out; empty if it can.

    What is scored, on which items and when is what makes a score mean something: a model may explain it, not change it.
    """
    if isinstance(proposal, HoldOutProposal):
        return ""
    rules = playbook.propose(brief).plain()
    other = [key for key, value in proposal.plain().items() if key != "why" and value != rules[key]]
    return "; ".join(f"`{key}` must be {rules[key]}" for key in other)
