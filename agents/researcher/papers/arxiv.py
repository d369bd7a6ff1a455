"""arXiv's interface: an Atom feed of papers that match words, or that have an id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agents.researcher.addresses import base
from agents.researcher.library import DAY, Library, NotFound, Page
from agents.researcher.papers.ids import arxiv_id, doi_of, paper_id
from agents.researcher.papers.records import Paper
from shared_memory.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

FRESH = 7 * DAY
ATOM = "{http://www.w3.org/2005/Atom}"
OWN = "{http://arxiv.org/schemas/atom}"
TOTAL = "{http://a9.com/-/spec/opensearch/1.1/}totalResults"
WORDS = 8
"""Of a query that are searched for."""
STOP_WORDS = frozenset(
    {
        "a", "an", "and", "are", "as", "at", "be", "by", "do", "does", "for", "from", "how", "in", "into", "is", "it",
        "its", "of", "on", "or", "that", "the", "their", "these", "this", "to", "using", "was", "what", "when", "where",
        "which", "while", "who", "why", "with",
    }
)  # fmt: skip


def search(library: Library, query: str, limit: int) -> list[Paper]:
    """Papers with all the words of a query, else with some of them; by arXiv's relevance."""
    words = [word for word in re.findall(r"[^\W_][\w.+]*", query) if word.lower() not in STOP_WORDS][:WORDS]
    if not words:
        return []
    for connective in (" AND ", " OR "):
        wanted = connective.join(f"all:{word.rstrip('.')}" for word in words)
        found = _feed(library, {"search_query": wanted, "max_results": str(limit), "sortBy": "relevance"})
        if found or len(words) == 1:
            return found
    return []


def describe(library: Library, name: str) -> Paper:
    """name: an arXiv id; raises NotFound where there is no such paper."""
    found = _feed(library, {"id_list": name, "max_results": "1"})
    if not found:
        raise NotFound(f"arXiv has no paper {name}; check the id")
    return found[0]


def _feed(library: Library, params: dict[str, str]) -> list[Paper]:
    url = f"{base('arxiv_api')}/api/query"
    return library.understood(_papers, url, {"start": "0", **params}, fresh_for=FRESH)


def _papers(page: Page) -> list[Paper]:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
    from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

    try:
        feed = fromstring(page.content)
    except (ParseError, DefusedXmlException) as error:
        raise Unavailable("arXiv answers with something that is no Atom feed; run again later") from error
    papers, entries = [], list(feed.iter(f"{ATOM}entry"))
    if not entries and _text(feed, TOTAL) not in ("", "0"):  # it happens, and the next time they are there
        raise Unavailable("arXiv leaves out the papers that it has found; run again later")
    for entry in entries:
        if "/api/errors" in _text(entry, f"{ATOM}id"):
            raise BadInput(f"arXiv refuses the request ({_text(entry, f'{ATOM}summary')}); write it otherwise")
        if paper := _paper(entry):
            papers.append(paper)
    return papers


def _paper(entry: Element) -> Paper | None:
    """None for an entry without title, which is how arXiv answers for an id that it does not have."""
    title, address = _text(entry, f"{ATOM}title"), _text(entry, f"{ATOM}id")
    if not title or not address:
        return None
    name = arxiv_id(paper_id(address))
    comment, abstract = _text(entry, f"{OWN}comment"), _text(entry, f"{ATOM}summary")
    return Paper(
        id=name,
        title=title,
        authors=tuple(_text(author, f"{ATOM}name") for author in entry.findall(f"{ATOM}author")),
        published=_text(entry, f"{ATOM}published")[:10],
        venue=_text(entry, f"{OWN}journal_ref"),
        abstract=f"[{comment}] {abstract}" if "withdrawn" in comment.casefold() else abstract,
        arxiv_id=name,
        doi=doi_of(_text(entry, f"{OWN}doi")),
        found_by=("arxiv",),
    )


def _text(element: Element, tag: str) -> str:
    return " ".join((element.findtext(tag) or "").split())
