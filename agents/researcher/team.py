"""Sub-searches: up to four questions looked into side by side, each in a loop of its own with the tools that read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from agents.brain import Role
from agents.loop import work
from agents.prompting import conversation, fill
from agents.provider import Refused
from agents.researcher.findings import Notebook
from agents.researcher.tools import described, on_one_line, reading_tools
from agents.workbench import Workbench
from shared_memory.errors import BudgetSpent, PostgradError, TimeOver
from shared_memory.records import Record

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

PROMPTS = Path(__file__).parent / "prompts"
AT_ONCE = 4
TIMES = 3
"""That a team is asked for one proposal, at most."""
STEPS = 16
"""Requests of one sub-search, at most; its own share of the steps where those are fewer."""


class TeamAnswer(Record):
    """What a sub-search hands in."""

    summary: str = Field(min_length=1, max_length=2000)
    """At most five sentences."""
    findings: tuple[str, ...] = Field(default=(), max_length=12)
    """Ids that `record_finding` gave back."""


def limited(bench: Workbench) -> Workbench:
    """The workbench with a limit on how often a team is asked, where it has none."""
    return replace(bench, limits={"ask_team": TIMES, **bench.limits})


def team_tool(bench: Workbench, notebook: Notebook) -> BaseTool:
    """The tool that sets a team on parts of a question. Its members have no such tool: they are one level deep."""
    from langchain_core.tools import tool

    @tool
    def ask_team(questions: Annotated[list[str], Field(min_length=1, max_length=AT_ONCE)]) -> str:
        """Look into up to four sub-questions side by side; each gives back filed findings and a summary. Say all that
        it needs in the question."""
        return ask(questions, bench, notebook)

    return on_one_line(ask_team)


def ask(questions: Sequence[str], bench: Workbench, notebook: Notebook) -> str:
    """What became of each question, in their order. One that fails leaves the others.

    Raises what ends the research as a whole (a cap, the time, an account that is refused), when all have ended.
    """
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        asked = {each: pool.submit(_searched, each, bench, notebook) for each in dict.fromkeys(questions)}
    return "\n\n".join(f"{question}\n{_outcome(each)}" for question, each in asked.items())


def _outcome(search: Future[str]) -> str:
    """What a sub-search gave back. An error that nobody foresaw is its own, as any tool's is; see `errors_of_tools`."""
    try:
        return search.result()
    except PostgradError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary around one of several
        return f"This sub-search failed: {type(error).__name__}: {error}"


def _searched(question: str, bench: Workbench, notebook: Notebook) -> str:
    bench.tell("note", text=f"looking into: {question}")
    own = replace(bench, steps=min(STEPS, bench.steps), tools=())
    system, task = fill(PROMPTS / "system.md"), fill(PROMPTS / "team.md")
    messages = partial(conversation, system, task, {}, {"question": question}, TeamAnswer)

    def fault(given: TeamAnswer) -> str:
        strange = [name for name in given.findings if notebook.get(name) is None]
        if strange:
            return f"no finding was filed as {strange[0]!r}; name the ids that `record_finding` gave back"
        return ""

    try:
        answer = work(own, str(Role.RESEARCHER), TeamAnswer, messages, reading_tools(own, notebook), fault)
    except (BudgetSpent, TimeOver, Refused):
        raise
    except PostgradError as error:
        bench.tell("note", text=f"a sub-search came to nothing: {question}: {error}")
        return f"This sub-search failed: {error}"
    found = [described(filed) for name in dict.fromkeys(answer.findings) if (filed := notebook.get(name))]
    return "\n".join([answer.summary, *found])
