"""Reading a paper by section: its contents first, then one section or table, from the best text that there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from agents.researcher.addresses import base
from agents.researcher.library import Library, NotFound
from agents.researcher.papers import latexml, pdf, semantic_scholar
from agents.researcher.papers.document import Document
from agents.researcher.papers.ids import arxiv_id
from agents.researcher.papers.ids import paper_id as known_id
from agents.researcher.papers.records import Contents, Passage
from shared_memory.errors import BadInput, PostgradError, Unavailable

Kind = Literal["arxiv_html", "ar5iv", "pdf"]
LONGEST = 40_000
"""Characters of one cut."""


@dataclass(frozen=True)
class _Text:
    """A paper's text, and where it comes from."""

    name: str
    document: Document
    kind: Kind
    url: str


def contents(library: Library, paper_id: str) -> Contents:
    """What the paper holds, with sizes; raises NotFound where nobody has its text."""
    text = _text(library, paper_id)
    return Contents(text.name, text.document.title, text.document.entries(), text.kind, text.url)


def section(library: Library, paper_id: str, name: str, *, offset: int = 0, limit: int = 8000) -> Passage:
    """A cut of a section or table; name: as the contents call it, its number, or its title.

    limit: characters; the cut ends at the end of a line where there is one in its last fifth.
    """
    text = _text(library, paper_id)
    index = text.document.find(name)
    whole = text.document.text_of(index)
    offset, limit = max(0, min(offset, len(whole))), max(200, min(limit, LONGEST))
    end = offset + limit
    if end < len(whole):
        line = whole.rfind("\n", offset + limit * 4 // 5, end)
        end = line + 1 if line > 0 else end
    called = text.document.names[index]
    title = text.document.title
    return Passage(text.name, called, whole[offset:end], offset, len(whole), text.kind, text.url, title, whole[:end])


def _text(library: Library, paper_id: str) -> _Text:
    """The first source that has the paper in a form that can be read."""
    name, reasons = known_id(paper_id), []
    failure: PostgradError | None = None
    for kind, url in _addresses(library, name):
        try:
            page = library.get(url, accept="application/pdf" if kind == "pdf" else "text/html")
        except (BadInput, Unavailable) as error:
            failure = error if failure is None or isinstance(error, Unavailable) else failure
            reasons.append(str(error))
            continue
        document = _read(kind, page.content)
        if document is not None:
            return _Text(name, document, kind, page.url)
        reasons.append(f"{url} holds no text that can be read")
    said = "; ".join(reasons)
    if len(reasons) == 1 and type(failure) is BadInput:  # the one place where it is may not be asked
        raise failure
    if isinstance(failure, Unavailable):
        raise Unavailable(f"the text of {name} is not to be had now: {said}") from failure
    raise NotFound(f"nobody has the text of {name} ({said}); read its abstract instead") from failure


def _addresses(library: Library, name: str) -> Iterator[tuple[Kind, str]]:
    """Where the text may be, the best first: HTML keeps sections, tables and formulas apart, a PDF does not."""
    on_arxiv = arxiv_id(name, version=True)
    pdf_elsewhere = ""
    if not on_arxiv:
        paper = semantic_scholar.describe(library, name)
        on_arxiv, pdf_elsewhere = paper.arxiv_id, paper.pdf
    if on_arxiv:
        yield "arxiv_html", f"{base('arxiv')}/html/{on_arxiv}"
        yield "ar5iv", f"{base('ar5iv')}/html/{arxiv_id(on_arxiv)}"
        yield "pdf", f"{base('arxiv')}/pdf/{on_arxiv}"
    elif pdf_elsewhere:
        yield "pdf", pdf_elsewhere
    else:
        raise BadInput(f"{name} is not on arXiv and no open PDF of it is known; read its abstract instead")


@lru_cache(maxsize=16)
def _read(kind: Kind, content: bytes) -> Document | None:
    try:
        return pdf.parse(content) if kind == "pdf" else latexml.parse(content)
    except RecursionError:  # tags within tags without end
        return None
