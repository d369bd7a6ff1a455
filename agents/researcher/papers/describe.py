"""One paper as all services together describe it, with the models, data sets, spaces and code that it leads to."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from agents.researcher.library import Library, NotFound
from agents.researcher.papers import arxiv, hub, semantic_scholar
from agents.researcher.papers.ids import arxiv_id
from agents.researcher.papers.ids import paper_id as known_id
from agents.researcher.papers.records import Details, Linked, Paper, Source
from agents.researcher.papers.search import ask_all, joined, missing_of, none_answers
from shared_memory.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable


def details(library: Library, paper_id: str) -> Details:
    """Raises NotFound where no service knows the paper, and Unavailable where none answers."""
    name = known_id(paper_id)
    on_arxiv = arxiv_id(name)
    first: tuple[Paper, tuple[Linked, ...]] | None = None
    if not on_arxiv:
        first = semantic_scholar.describe(library, name), ()
        on_arxiv = first[0].arxiv_id
        if not on_arxiv:
            return Details(*first)
    questions: dict[Source, Callable[[], tuple[Paper, tuple[Linked, ...]] | None]] = {
        "arxiv": lambda: (arxiv.describe(library, on_arxiv), ()),
        "semantic_scholar": lambda: first or (semantic_scholar.describe(library, on_arxiv), ()),
        "hub": lambda: _page(library, on_arxiv),
    }
    answers, failures = ask_all(questions)
    known = [answer for answer in answers.values() if answer is not None]
    if not known:
        if any(isinstance(error, Unavailable) for error in failures.values()):
            raise none_answers(failures)
        raise NotFound(f"no source knows the paper {paper_id}; check the id")
    paper = reduce(joined, (paper for paper, _ in known))
    return Details(paper, tuple(one for _, linked in known for one in linked), missing_of(failures))


def _page(library: Library, name: str) -> tuple[Paper, tuple[Linked, ...]] | None:
    """None for a paper that has no page on Hugging Face: most have none, and nothing is missing then."""
    try:
        return hub.describe(library, name)
    except NotFound:
        return None
