"""The tools of the researcher's language model: few, and in few words, for they are sent with every request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agents.researcher.findings import Filed, Notebook
from agents.researcher.reading_room import NotedLibrary, ReadingRoom
from agents.workbench import Workbench
from shared_memory.records import Finding

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool


def tools(bench: Workbench, notebook: Notebook) -> list[BaseTool]:
    """All of them: to read, to file findings, and to set others on parts of the question.

    What cannot be found or reached raises BadInput or Unavailable, whose words say what to try next.
    """
    from agents.researcher.team import team_tool

    reading = reading_tools(bench, notebook)
    return [*reading, team_tool(bench, notebook)]


def reading_tools(bench: Workbench, notebook: Notebook) -> list[BaseTool]:
    """Those that read and file, which a sub-search has as well."""
    room = ReadingRoom(NotedLibrary(bench.library, allowed=bench.allowed_hosts), notebook)
    made = [*_papers(room), *_reference(room), _record_finding(bench, notebook), _list_findings(notebook)]
    return [on_one_line(each) for each in made]


def on_one_line(tool: BaseTool) -> BaseTool:
    """With its description as it is sent: line ends and indents are tokens."""
    tool.description = " ".join(tool.description.split())
    return tool


def _papers(room: ReadingRoom) -> list[BaseTool]:
    from langchain_core.tools import tool

    @tool
    def search_papers(query: str, sentences: bool = False) -> str:
        """Papers on a subject; with `sentences`, passages of full texts that answer the query."""
        return room.search_sentences(query) if sentences else room.search_papers(query)

    @tool
    def read_paper(paper: str, section: str = "", offset: int = 0) -> str:
        """A paper (2402.03300, DOI:…). Without `section`: abstract, linked code and data, contents. Then a section or
        table, as the contents call it."""
        return room.section(paper, section, offset) if section else room.paper(paper)

    @tool
    def citations(paper: str, direction: Literal["citing", "cited"] = "citing", offset: int = 0) -> str:
        """Papers citing this one, influential first, with the citing sentence; or those cited by it."""
        return room.citations(paper, direction, offset)

    return [search_papers, read_paper, citations]


def _reference(room: ReadingRoom) -> list[BaseTool]:
    from langchain_core.tools import tool

    @tool
    def installed_library(name: str, words: str = "", code: bool = False, offset: int = 0) -> str:
        """Signature and help of an installed object (trl.GRPOConfig); with `code` its source; with `words`, a search in
        it."""
        return room.installed(name, words, code, offset)

    @tool
    def docs(package: str, words: str = "", page: str = "", section: str = "", offset: int = 0) -> str:
        """Hugging Face documentation of a package (trl): pages that fit `words`, or one page."""
        return room.docs(package, words, page, section, offset)

    @tool
    def github(repo: str, words: str = "", path: str = "", first: int = 1, last: int = 0) -> str:
        """A repository (owner/name): examples that fit `words`; a folder, its `path` ending in /; or a file's lines."""
        return room.code(repo, words, path, first, last)

    @tool
    def read_web(url: str, section: str = "", offset: int = 0) -> str:
        """A page of the web."""
        return room.web(url, section, offset)

    @tool
    def search_hub(kind: Literal["model", "dataset"], words: str, max_billions: float = 0, author: str = "") -> str:
        """Models or data sets on the Hugging Face Hub."""
        return room.search_hub(kind, words, max_billions, author)

    @tool
    def read_card(kind: Literal["model", "dataset"], repo: str, section: str = "", offset: int = 0) -> str:
        """What a model or data set on the Hub is: size, columns, licence, card."""
        return room.card(kind, repo, section, offset)

    return [installed_library, docs, github, read_web, search_hub, read_card]


def _record_finding(bench: Workbench, notebook: Notebook) -> BaseTool:
    from langchain_core.tools import tool

    @tool
    def record_finding(
        claim: str,
        source: str,
        quotation: str,
        number: float | None = None,
        benchmark: str = "",
        section: str = "",
        confidence: Literal["low", "medium", "high"] = "medium",
    ) -> str:
        """File a finding from what was read; its id comes back. `source`: paper or `source:` of the reading.
        `quotation`: word for word, one passage. `number`: the result as written there, on `benchmark`; `section`: the
        section or table."""
        filed = notebook.file(
            Finding(
                id="", claim=claim, source=source, quotation=quotation, number=number, benchmark=benchmark,
                section=section, confidence=confidence,
            )
        )  # fmt: skip
        if isinstance(filed, str):
            return f"Refused: {filed}."
        bench.tell("note", text=f"found: {filed.finding.claim} ({filed.finding.source})")
        return f"Filed as {filed.finding.id}."

    return record_finding


def _list_findings(notebook: Notebook) -> BaseTool:
    from langchain_core.tools import tool

    @tool
    def list_findings() -> str:
        """What has been filed, with ids."""
        return "\n".join(map(described, notebook.all())) or "nothing has been filed"

    return list_findings


def described(filed: Filed) -> str:
    """A filed finding on one line, for a model."""
    each = filed.finding
    result = f" [{each.number:g} on {each.benchmark}]" if each.number is not None else ""
    return f"{each.id}: {each.claim}{result} ({', '.join(filter(None, (each.source, each.section)))})"
