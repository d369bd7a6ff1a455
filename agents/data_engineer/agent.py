"""The data engineer with a language model: what it may propose, and what is refused."""

from __future__ import annotations

from pathlib import Path

from agents import prompting
from agents.brain import Brief, Move, Proposal
from agents.data_engineer import playbook
from agents.data_engineer.proposal import DataProposal
from agents.llm import LanguageModel

PROMPTS = Path(__file__).parent / "prompts"
PROPOSALS: dict[Move, type[DataProposal]] = {Move.DATA: DataProposal}

MOST_ROWS = 10
"""Times the rows that the recipe asks for: generating more keeps a machine busy with what is never trained on."""


def propose(brief: Brief, model: LanguageModel) -> Proposal:
    """The model's proposal. Raises BadInput where the goal leaves nothing to train on, as the playbook does."""
    return prompting.propose(brief, model, PROPOSALS[brief.move], PROMPTS, fault, rules=playbook.propose(brief).plain())


def fault(proposal: DataProposal, brief: Brief) -> str:
    """Why a proposal cannot be carried out; empty if it can.

    Where rows come from is the goal's to say: a model chooses among its files, and runs no script but its generator.
    """
    rules = playbook.propose(brief)
    if proposal.method != rules.method:
        return f"`method` must be {rules.method!r}, which the recipes train with"
    if rules.generate is not None:
        if proposal.generate is None:
            return f"rows must be generated first: set `generate`, with script {rules.generate.script!r}"
        if (proposal.generate.script, proposal.generate.seed) != (rules.generate.script, rules.generate.seed):
            return f"`generate` must name script {rules.generate.script!r} and seed {rules.generate.seed}"
        if proposal.generate.rows > MOST_ROWS * rules.generate.rows:
            return f"`generate.rows` may be {MOST_ROWS * rules.generate.rows} at most"
        return ""
    if proposal.generate is not None:
        return "there is nothing to generate: name files in `sources`"
    foreign = [source for source in proposal.sources if source not in rules.sources]
    if foreign:
        return f"{foreign[0]!r} is not among the goal's files: {list(rules.sources)}"
    files = brief.goal.data.train
    if proposal.sources[: len(files)] != files:  # rows held out are known by the place of their file and their own
        return f"`sources` must begin with the goal's files, all and in their order: {list(files)}"
    missing = [source for source in brief.generated if source not in proposal.sources]
    return f"`sources` leaves out the generated rows, {missing[0]!r}" if missing else ""
