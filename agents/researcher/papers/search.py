"""Finding papers: three services are asked at once, and their answers merged."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import TypeVar

from agents.researcher.library import Library
from agents.researcher.papers import arxiv, hub, semantic_scholar
from agents.researcher.papers.ids import paper_id
from agents.researcher.papers.records import NAMES, Found, Missing, Paper, Snippet, Source
from shared_memory.errors import BadInput, PostgradError, Unavailable

DAMPING = 60
"""Of reciprocal ranks: rank r of one service counts 1 / (DAMPING + r) (Cormack et al. 2009)."""
MOST = 50
"""Results of one search."""

T = TypeVar("T")


def search(library: Library, query: str, *, limit: int = 10) -> Found:
    """Papers on a subject, the best first; raises Unavailable only where no service answers."""
    query, limit = " ".join(query.split()), max(1, min(limit, MOST))
    if not query:
        raise BadInput("a search for nothing; give words to look for")
    answers, failures = ask_all(
        {
            "hub": lambda: hub.search(library, query, limit),
            "semantic_scholar": lambda: semantic_scholar.search(library, query, limit),
            "arxiv": lambda: arxiv.search(library, query, limit),
        }
    )
    if not answers:
        raise none_answers(failures)
    return Found(tuple(merge(answers)[:limit]), missing_of(failures))


def snippets(library: Library, query: str, *, papers: Sequence[str] = (), limit: int = 10) -> tuple[Snippet, ...]:
    """Passages of full texts that answer a query, of any papers or of those named; from Semantic Scholar."""
    query = " ".join(query.split())
    if not query:
        raise BadInput("a search for nothing; give words to look for")
    names = [paper_id(name) for name in papers]
    return tuple(semantic_scholar.snippets(library, query, names, max(1, min(limit, MOST))))


def ask_all(
    questions: Mapping[Source, Callable[[], T]],
) -> tuple[dict[Source, T], dict[Source, PostgradError]]:
    """What each service answers, all asked at the same time, and why others do not."""
    with ThreadPoolExecutor(max_workers=len(questions)) as pool:
        futures = {source: pool.submit(copy_context().run, question) for source, question in questions.items()}
    answers: dict[Source, T] = {}
    failures: dict[Source, PostgradError] = {}
    for source, future in futures.items():
        try:
            answers[source] = future.result()
        except PostgradError as error:
            failures[source] = error
    return answers, failures


def none_answers(failures: Mapping[Source, PostgradError]) -> Unavailable:
    """The error for a question that no service has answered."""
    said = "; ".join(f"{NAMES[source]}: {error}" for source, error in failures.items())
    return Unavailable(f"no source of papers answers ({said})")


def missing_of(failures: Mapping[Source, PostgradError]) -> tuple[Missing, ...]:
    return tuple(Missing(source, str(error)) for source, error in failures.items())


def merge(answers: Mapping[Source, Sequence[Paper]]) -> list[Paper]:
    """One list of what several services found: a paper that more of them rank high comes first."""
    merged: list[Paper] = []
    places: dict[str, int] = {}
    for papers in answers.values():
        for rank, found in enumerate(papers, 1):
            paper = replace(found, score=1 / (DAMPING + rank))
            names = _names(paper)
            place = next((places[name] for name in names if name in places), len(merged))
            if place == len(merged):
                merged.append(paper)
            elif not set(paper.found_by) <= set(merged[place].found_by):
                merged[place] = joined(merged[place], paper)
            places |= dict.fromkeys((*names, *_names(merged[place])), place)
    return sorted(merged, key=lambda paper: (-paper.score, -(paper.citations or 0)))


def joined(one: Paper, other: Paper) -> Paper:
    """A paper as two services describe it; where both say something, the first holds."""
    arxiv_id = one.arxiv_id or other.arxiv_id
    return Paper(
        id=arxiv_id or one.id,
        title=one.title or other.title,
        authors=one.authors or other.authors,
        published=max(one.published, other.published, key=len),
        venue=one.venue or other.venue,
        abstract=one.abstract or other.abstract,
        arxiv_id=arxiv_id,
        doi=one.doi or other.doi,
        citations=other.citations if one.citations is None else one.citations,
        influential=other.influential if one.influential is None else one.influential,
        upvotes=other.upvotes if one.upvotes is None else one.upvotes,
        pdf=one.pdf or other.pdf,
        found_by=one.found_by + other.found_by,
        score=one.score + other.score,
    )


def _names(paper: Paper) -> list[str]:
    """What a paper is known by; a title counts where it is long enough to be one paper's."""
    letters = unicodedata.normalize("NFKD", paper.title).casefold()
    title = re.sub(r"[\W_]+", "", letters)
    return [
        name
        for name in (
            f"arxiv:{paper.arxiv_id}" if paper.arxiv_id else "",
            f"doi:{paper.doi}" if paper.doi else "",
            f"title:{title}" if len(title) >= 20 else "",
        )
        if name
    ]
