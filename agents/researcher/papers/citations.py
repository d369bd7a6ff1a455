"""The citation graph around a paper, both ways: who built on it, and what it built on."""

from __future__ import annotations

from typing import Literal

from agents.researcher.library import Library
from agents.researcher.papers import semantic_scholar
from agents.researcher.papers.ids import paper_id as known_id
from agents.researcher.papers.records import Citations

MOST = 100
"""Edges in one answer."""


def citing(library: Library, paper_id: str, *, limit: int = 20, offset: int = 0) -> Citations:
    """The papers that cite this one."""
    return _page(library, paper_id, "citations", limit, offset)


def cited(library: Library, paper_id: str, *, limit: int = 20, offset: int = 0) -> Citations:
    """The papers that this one cites."""
    return _page(library, paper_id, "references", limit, offset)


def _page(
    library: Library, paper_id: str, way: Literal["citations", "references"], limit: int, offset: int
) -> Citations:
    """All that are fetched are sorted before they are cut: the service has an order of its own."""
    found, more = semantic_scholar.edges(library, known_id(paper_id), way)
    found.sort(key=lambda edge: (edge.influential, edge.paper.published, edge.paper.citations or 0), reverse=True)
    offset, limit = max(offset, 0), max(1, min(limit, MOST))
    return Citations(tuple(found[offset : offset + limit]), offset, len(found), more)
