"""Semantic Scholar's Graph API: papers, passages of their texts, and who cites whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from agents.researcher.addresses import base
from agents.researcher.library import DAY, Library
from agents.researcher.papers.ids import arxiv_id, doi_of, paper_id, semantic_scholar_id
from agents.researcher.papers.records import Citation, Paper, Snippet
from shared_memory.errors import BadInput

FRESH = 7 * DAY
BRIEF = "title,authors,year,publicationDate,venue,externalIds,citationCount,influentialCitationCount"
FULL = f"{BRIEF},abstract,openAccessPdf"
EDGE = f"contexts,intents,isInfluential,{BRIEF}"
BATCH = 500
"""Edges in one answer: 1000 are allowed, but an answer over 10 MB is refused."""
EDGES = 2000
"""That are fetched of a paper at most."""
LIMIT = 100
"""Results of a search."""

T = TypeVar("T")


def search(library: Library, query: str, limit: int) -> list[Paper]:
    """Words with a hyphen match nothing there, so they are asked for as two."""
    words = re.sub(r"[-‐‑–—]", " ", query)
    params = {"query": words, "limit": str(min(limit, LIMIT)), "fields": FULL}
    return _ask(library, "paper/search", params, lambda answer: [paper_of(entry) for entry in _rows(answer)])


def describe(library: Library, name: str) -> Paper:
    """name: of any kind; raises NotFound where it is not known."""
    return _ask(library, _path(name), {"fields": FULL}, paper_of)


def snippets(library: Library, query: str, papers: Sequence[str], limit: int) -> list[Snippet]:
    """papers: ids to look in; none for all."""
    params = {"query": query, "limit": str(limit)}
    if papers:
        params["paperIds"] = ",".join(semantic_scholar_id(name) for name in papers)
    return _ask(library, "snippet/search", params, lambda answer: [_snippet(row) for row in _rows(answer)])


def edges(
    library: Library, name: str, way: Literal["citations", "references"], most: int = EDGES
) -> tuple[list[Citation], bool]:
    """The edges of the citation graph at a paper, and whether there are others than these."""
    key = "citingPaper" if way == "citations" else "citedPaper"
    found: list[Citation] = []
    offset: int | None = 0
    while offset is not None and offset < most:
        params = {"fields": EDGE, "offset": str(offset), "limit": str(min(BATCH, most - offset))}
        page, following = _ask(library, f"{_path(name)}/{way}", params, lambda answer: _page(answer, key))
        found += page
        offset = following if following and following > offset else None
    return found, offset is not None


def paper_of(entry: dict[str, Any]) -> Paper:
    """A paper as it is described there; what it leaves out is empty."""
    outside = entry.get("externalIds") or {}
    arxiv, doi = arxiv_id(str(outside.get("ArXiv") or "")), doi_of(outside.get("DOI"))
    own = str(entry.get("paperId") or "")
    return Paper(
        id=arxiv or own or (f"DOI:{doi}" if doi else ""),
        title=" ".join(str(entry.get("title") or "").split()),
        authors=tuple(str(author["name"]) for author in entry.get("authors") or () if author.get("name")),
        published=str(entry.get("publicationDate") or entry.get("year") or ""),
        venue=str(entry.get("venue") or ""),
        abstract=" ".join(str(entry.get("abstract") or "").split()),
        arxiv_id=arxiv,
        doi=doi,
        citations=entry.get("citationCount"),
        influential=entry.get("influentialCitationCount"),
        pdf=str((entry.get("openAccessPdf") or {}).get("url") or ""),
        found_by=("semantic_scholar",),
    )


def _page(answer: dict[str, Any], key: str) -> tuple[list[Citation], int | None]:
    """Edges, and the offset of those that follow."""
    following = answer.get("next")
    edges = [_edge(row, key) for row in _rows(answer) if (row.get(key) or {}).get("title")]
    return edges, following if isinstance(following, int) else None


def _edge(row: dict[str, Any], key: str) -> Citation:
    return Citation(
        paper=paper_of(row[key]),
        influential=bool(row.get("isInfluential")),
        intents=tuple(map(str, row.get("intents") or ())),
        sentences=tuple(" ".join(str(sentence).split()) for sentence in row.get("contexts") or ()),
    )


def _snippet(row: dict[str, Any]) -> Snippet:
    """The paper is given by a number of theirs; its arXiv id, where it has one, stands in the licence notice."""
    snippet, paper = row.get("snippet") or {}, row.get("paper") or {}
    notice = str((paper.get("openAccessInfo") or {}).get("disclaimer") or "")
    address = re.search(r"https?://arxiv\.org/abs/[^\s,]+", notice)
    try:
        name = paper_id(address[0].rstrip(".")) if address else ""
    except BadInput:
        name = ""
    return Snippet(
        text=str(snippet.get("text") or ""),
        paper_id=name or (f"CorpusId:{paper['corpusId']}" if paper.get("corpusId") else ""),
        title=str(paper.get("title") or ""),
        section=str(snippet.get("section") or ""),
        kind=str(snippet.get("snippetKind") or ""),
        score=float(row.get("score") or 0.0),
    )


def _path(name: str) -> str:
    return f"paper/{quote(semantic_scholar_id(name), safe=':/')}"


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """`data` is null where a publisher does not let the references be shown."""
    rows = answer.get("data") or []
    return [row for row in rows if isinstance(row, dict)]


def _ask(library: Library, path: str, params: dict[str, str], read: Callable[[dict[str, Any]], T]) -> T:
    url = f"{base('semantic_scholar')}/graph/v1/{path}"
    return library.understood(lambda page: read(page.json()), url, params, fresh_for=FRESH)
