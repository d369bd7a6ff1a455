"""Where the researcher reads: sources as text for a model, each kept as what quotations are checked against."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from agents.researcher.checks import LEAST_WORDS
from agents.researcher.findings import Notebook
from agents.researcher.library import Library, Page
from agents.researcher.papers import citations, describe, reading, search
from agents.researcher.papers.ids import ARXIV, SHA
from agents.researcher.papers.records import Citation, Entry, Found, Linked, Paper
from agents.researcher.reference import documentation, github, hub, installed, web
from agents.researcher.reference.pages import PIECE, Piece
from agents.researcher.shelf import Reading
from shared_memory.errors import PostgradError

ABSTRACT = 320
"""Characters of an abstract in a list of papers."""
MOST_LINKED = 8

_COMMIT = re.compile(r"(\S+/\S+) at ([0-9a-f]{7,40})\b")
_RELEASE = re.compile(r" (?:of|in) (\S+ \d[\w.]*)")

_PAGES: ContextVar[list[tuple[int, float]] | None] = ContextVar("pages of a reading", default=None)
"""Bytes and time of each."""

Direction = Literal["citing", "cited"]
Kind = Literal["model", "dataset"]


class NotedLibrary(Library):
    """A library that remembers when the pages of a reading came: that is when its source was fetched.

    A reading is a matter of its context, which the threads that it sets to work run in as well.
    """

    def get(
        self, url: str, params: Mapping[str, str] | None = None, *, accept: str = "", fresh_for: float | None = None
    ) -> Page:
        page = super().get(url, params, accept=accept, fresh_for=fresh_for)
        if (pages := _PAGES.get()) is not None:
            pages.append((len(page.content), page.fetched))
        return page

    def begin(self) -> None:
        """A reading begins."""
        _PAGES.set([])

    def fetched(self) -> float:
        """When the largest page of this reading came; now without any. In seconds since the epoch."""
        pages = _PAGES.get()
        return max(pages)[1] if pages else time.time()


class ReadingRoom:
    """The sources, read for one notebook. What cannot be found or reached raises BadInput or Unavailable."""

    def __init__(self, library: NotedLibrary, notebook: Notebook) -> None:
        self.library = library
        self._shelf = notebook.shelf

    def found(self, query: str, limit: int = 8) -> Found:
        """Papers on a subject, best first; their abstracts are read."""
        self.library.begin()
        found = search.search(self.library, query, limit=limit)
        for paper in found.papers:
            self._keep_abstract(paper)
        return found

    def search_papers(self, query: str) -> str:
        found = self.found(query)
        lines = [f"{_heading(paper)}\n  {_cut(paper.abstract, ABSTRACT)}" for paper in found.papers]
        lines += [f"Not asked: {each.source}, {each.reason}" for each in found.missing]
        return "\n".join(lines) or "no paper was found; use fewer or other words"

    def sentences(self, query: str, limit: int = 10, papers: Sequence[str] = ()) -> list[Reading]:
        """Passages of papers that answer a query, as readings."""
        self.library.begin()
        found = search.snippets(self.library, query, papers=papers, limit=limit)
        readings = [
            Reading(
                source=cited_as(each.paper_id), text=each.text, section=each.section or each.kind, title=each.title,
                url=address_of(each.paper_id), fetched=self.library.fetched(),
            )
            for each in found
        ]  # fmt: skip
        for each in readings:
            self._shelf.put(each)
        return readings

    def search_sentences(self, query: str) -> str:
        lines = [f"{each.source} · {each.title} · {each.section}\n  {each.text}" for each in self.sentences(query)]
        return "\n".join(lines) or "no passage was found; use fewer or other words"

    def paper(self, paper_id: str) -> str:
        """A paper at a glance: who, when, abstract, what it leads to, and its contents."""
        self.library.begin()
        details = describe.details(self.library, paper_id)
        self._keep_abstract(details.paper)
        lines = [_heading(details.paper), details.paper.abstract]
        if details.linked:
            lines.append("Linked: " + "; ".join(map(_link, details.linked[:MOST_LINKED])))
        try:
            contents = reading.contents(self.library, details.paper.id)
        except PostgradError as error:
            lines.append(f"Its text cannot be read: {error}")
        else:
            lines.append("Contents (characters):")
            lines += map(_line, contents.entries)
        lines += [f"Not asked: {each.source}, {each.reason}" for each in details.missing]
        return "\n".join(filter(None, lines))

    def section(self, paper_id: str, name: str, offset: int = 0) -> str:
        """A piece of a section or table."""
        self.library.begin()
        passage = reading.section(self.library, paper_id, name, offset=offset, limit=PIECE)
        self._shelf.put(
            Reading(
                source=cited_as(passage.paper_id), text=passage.so_far, section=passage.section, title=passage.title,
                url=address_of(passage.paper_id) or passage.url, fetched=self.library.fetched(),
            )
        )  # fmt: skip
        more = f"\n[offset {passage.next_offset} reads on, of {passage.total}]" if passage.next_offset else ""
        return f"{cited_as(passage.paper_id)} · {passage.section}\n{passage.text}{more}"

    def citations(self, paper_id: str, direction: Direction, offset: int = 0) -> str:
        """The citation graph at a paper: by whom it is cited and how, or whom it cites."""
        find = citations.citing if direction == "citing" else citations.cited
        page = find(self.library, paper_id, limit=15, offset=offset)
        on = f"[offset {page.offset + len(page.edges)} lists more, of {page.total}]"
        lines = [*map(_edge, page.edges), *([on] if page.offset + len(page.edges) < page.total else [])]
        return "\n".join(lines) or "none is known"

    def installed(self, name: str, words: str = "", code: bool = False, offset: int = 0) -> str:
        """An object of an installed library: described, searched or as source."""
        if words:
            return installed.search(name, words)
        text = installed.source(name, offset) if code else installed.describe(name)
        release = _RELEASE.search(text)
        cited = f"{name} ({release[1]})" if release else name
        piece = text if isinstance(text, Piece) else Piece(text, text.partition("\n\n")[2])
        return self._kept(cited, piece, time.time())

    def docs(self, package: str, words: str, page: str, section: str, offset: int) -> str:
        """The documentation of a package: its pages, or one of them."""
        if not page:
            return documentation.find_pages(self.library, package, words)
        self.library.begin()
        text = documentation.read_page(self.library, package, page, section, offset)
        name = documentation.address_of(package, page)
        return self._kept(name, text, self.library.fetched(), section, name)

    def code(self, repo: str, words: str, path: str, first: int, last: int) -> str:
        """Code on GitHub: examples for words, the files of a folder (a path that ends in `/`), or lines of a file."""
        if words:
            return github.find_examples(self.library, repo, words)
        if not path or path.endswith("/"):
            return github.list_files(self.library, repo, path.rstrip("/"))
        self.library.begin()
        text = github.read_file(self.library, repo, path, first, last)
        at = _COMMIT.match(text)
        name = f"https://github.com/{at[1] if at else repo}/blob/{at[2] if at else 'HEAD'}/{path}"
        return self._kept(name, text, self.library.fetched(), url=name)

    def web(self, url: str, section: str, offset: int) -> str:
        """A page of the web."""
        self.library.begin()
        text = web.read(self.library, url, section, offset)
        if _brings_words(url):
            return f"{text}\n(What this address was asked with may stand in it, so it cannot be quoted: open a result.)"
        return self._kept(url, text, self.library.fetched(), section, url)

    def search_hub(self, kind: Kind, words: str, max_billions: float, author: str) -> str:
        """Models or data sets on the Hub."""
        if kind == "model":
            return hub.find_models(words, author=author, max_parameters=max_billions)
        return hub.find_datasets(words, author=author)

    def card(self, kind: Kind, repo_id: str, section: str, offset: int) -> str:
        """A repository of the Hub: what it is and its card's beginning, or a section of the card."""
        card = hub.read_card(repo_id, kind, section, offset)
        if not section and not offset:
            about = (
                hub.describe_model(repo_id) if kind == "model" else hub.describe_dataset(repo_id, library=self.library)
            )
            card = Piece(f"{about}\n\n{card}", f"{about}\n\n{card.own}")
        url = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
        return self._kept(url, card, time.time(), section, url)

    def _keep_abstract(self, paper: Paper) -> None:
        if paper.abstract:
            self._shelf.put(
                Reading(
                    source=cited_as(paper.id), text=f"{paper.title}\n\n{paper.abstract}", section="Abstract",
                    title=paper.title, url=address_of(paper.id), fetched=self.library.fetched(),
                )
            )  # fmt: skip

    def _kept(self, source: str, piece: Piece, fetched: float, section: str = "", url: str = "") -> str:
        """The text under the name that a finding gives its source by; what is the source's own can be quoted."""
        self._shelf.put(Reading(source=source, text=piece.own, section=section, url=url, fetched=fetched))
        return f"source: {source}\n{piece}"


def _brings_words(url: str) -> bool:
    """Whether an address is asked with words, which a page may say back: who asks would quote himself."""
    try:
        values = [value for _, value in parse_qsl(urlsplit(url).query)]
    except ValueError:
        return True
    return any(len(value.split()) > 1 for value in values) or len(values) >= LEAST_WORDS


def cited_as(paper_id: str) -> str:
    """How a paper is cited: `arXiv 2402.03300`, else by its DOI or Semantic Scholar's id."""
    return f"arXiv {paper_id}" if ARXIV.fullmatch(paper_id) else paper_id


def address_of(paper_id: str) -> str:
    """Where a person finds a paper; empty where its id does not tell."""
    if cited_as(paper_id) != paper_id:
        return f"https://arxiv.org/abs/{paper_id}"
    if paper_id.startswith("DOI:"):
        return f"https://doi.org/{paper_id[4:]}"
    return f"https://www.semanticscholar.org/paper/{paper_id}" if SHA.fullmatch(paper_id) else ""


def _heading(paper: Paper) -> str:
    who = paper.authors[0] + (" et al." if len(paper.authors) > 1 else "") if paper.authors else ""
    cited = f"{paper.citations} citations" if paper.citations is not None else ""
    return " · ".join(filter(None, (paper.id, paper.title, who, paper.published, paper.venue, cited)))


def _line(entry: Entry) -> str:
    caption = f": {entry.caption}" if entry.caption else ""
    return f"{'  ' * (entry.level - 1)}{entry.name} ({entry.chars}){caption}"


def _link(linked: Linked) -> str:
    return f"{linked.kind} {linked.id}"


def _edge(edge: Citation) -> str:
    marks = ", ".join([*(["influential"] if edge.influential else []), *edge.intents])
    return "\n  ".join([f"{_heading(edge.paper)}" + (f" ({marks})" if marks else ""), *edge.sentences[:1]])


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
