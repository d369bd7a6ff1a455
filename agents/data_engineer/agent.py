"""The data engineer with a language model: what it may propose, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents import programs, prompting
from agents.brain import Brief, Move, Proposal
from agents.data_engineer import playbook
from agents.data_engineer.proposal import DataProposal, Generate
from agents.data_engineer.tools import tools_of
from agents.workbench import Workbench

PROMPTS = Path(__file__).parent / "prompts"
PROPOSALS: dict[Move, type[DataProposal]] = {Move.DATA: DataProposal}

FAILED_PROGRAM = "program-"
"""Begins the id of a finding on a generator that a model wrote and that came to nothing."""
MOST_PROGRAMS = 2
"""Of a model's own that may fail in a run."""
MOST_ROWS = 10
"""Times the rows that the recipe asks for: generating more keeps a machine busy with what is never trained on."""


def propose(brief: Brief, bench: Workbench) -> Proposal:
    """The model's proposal. Raises BadInput where the goal leaves nothing to train on, as the playbook does."""
    if brief.move is Move.PUBLISH:  # the goal says all there is to say
        return playbook.publish(brief)
    known: dict[str, Any] = {
        "audit": brief.audit.plain() if brief.audit else None,
        "teacher": brief.teacher,
        "choices": brief.choices,
        "writes": playbook.decide(brief).plain(),
        "rules": playbook.propose_data(brief).plain(),
    }
    return prompting.propose(brief, bench, PROPOSALS[brief.move], PROMPTS, fault, tools_of(brief), **known)


def fault(proposal: DataProposal, brief: Brief) -> str:
    """Why a proposal cannot be carried out; empty if it can.

    Where rows come from is the goal's to say: a model chooses among its files, and runs no script but its generator.
    """
    rules = playbook.propose_data(brief)
    if proposal.method != rules.method:
        return f"`method` must be {rules.method!r}, which the recipes train with"
    if rules.generate is not None:
        return _fault_of_writing(proposal.generate, rules.generate, brief)
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


def _fault_of_writing(writing: Generate | None, rules: Generate, brief: Brief) -> str:
    """How many rows are written, and what checks them, is the model's to choose; whether, by whom and from which seed
    the rules say."""
    if writing is None:
        return f"rows must be generated first: set `generate`, with {_writer(rules)}"
    by_program = bool(writing.program and rules.teacher)
    named = (writing.script, writing.teacher, writing.program) == (rules.script, rules.teacher, "")
    if writing.seed != rules.seed or not (by_program or named):
        instead = "; a `program` may stand in its place" if rules.teacher else ""
        return f"`generate` must name {_writer(rules)} and seed {rules.seed}{instead}"
    if by_program and (reason := _fault_of_program(writing.program, brief)):
        return reason
    if writing.rows > MOST_ROWS * rules.rows:
        return f"`generate.rows` may be {MOST_ROWS * rules.rows} at most"
    if writing.verify != "computed" and not brief.teacher:
        return f"`generate.verify` is {writing.verify!r}, and there is no model that may check rows; set 'computed'"
    if writing.teacher and writing.verify == "computed":
        return f"`generate.verify` must be {rules.verify!r}: few rows of a teacher show a calculation"
    return ""


def _fault_of_program(program: str, brief: Brief) -> str:
    """Why a generator of the model's own cannot be taken; empty if it can."""
    failed = [key for key in brief.findings if key.startswith(FAILED_PROGRAM)]
    if len(failed) >= MOST_PROGRAMS:
        return f"{len(failed)} programs have failed in this run; name the teacher instead"
    return programs.fault(program)


def _writer(rules: Generate) -> str:
    return f"script {rules.script!r}" if rules.script else f"teacher {rules.teacher!r}"
