"""What is known of papers: found, described, cited and read. Everything in them was written by others: untrusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["hub", "semantic_scholar", "arxiv"]
"""A service that knows papers; `hub` is Hugging Face's paper pages."""
NAMES: dict[Source, str] = {"hub": "Hugging Face", "semantic_scholar": "Semantic Scholar", "arxiv": "arXiv"}


@dataclass(frozen=True)
class Missing:
    """A service whose part is not in the result."""

    source: Source
    reason: str
    """One line; what it says holds the next move."""


@dataclass(frozen=True)
class Linked:
    """Something that a paper's page leads to."""

    kind: Literal["model", "dataset", "space", "code", "page"]
    id: str
    """A Hub id, or an address for code and pages."""
    likes: int = 0
    downloads: int = 0


@dataclass(frozen=True)
class Paper:
    """One paper, as the services that know it describe it together."""

    id: str
    """What the other functions take: `2402.03300`, else `DOI:10.…`, else Semantic Scholar's id."""
    title: str
    authors: tuple[str, ...] = ()
    published: str = ""
    """`2024-02-05`, or a year."""
    venue: str = ""
    abstract: str = ""
    arxiv_id: str = ""
    """Without version."""
    doi: str = ""
    """In lower case; empty for arXiv's own."""
    citations: int | None = None
    """How many papers cite it; None where nobody says."""
    influential: int | None = None
    """How many of them build on it, as Semantic Scholar judges."""
    upvotes: int | None = None
    """On its Hugging Face page; None where it has none."""
    pdf: str = ""
    """Address of an open PDF, for a paper that is not on arXiv."""
    found_by: tuple[Source, ...] = ()
    score: float = 0.0
    """Of a search: reciprocal ranks, summed over the services."""


@dataclass(frozen=True)
class Found:
    """The result of a search, the best first."""

    papers: tuple[Paper, ...]
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Details:
    """A paper with what leads on from it."""

    paper: Paper
    linked: tuple[Linked, ...] = ()
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Snippet:
    """A passage of a paper that answers a query."""

    text: str
    paper_id: str
    title: str
    section: str
    """Empty for the title and the abstract."""
    kind: str
    """`title`, `abstract` or `body`."""
    score: float
    """Of the service; higher is better."""


@dataclass(frozen=True)
class Citation:
    """One paper citing another."""

    paper: Paper
    """The other one: that cites, or is cited."""
    influential: bool
    intents: tuple[str, ...]
    """`background`, `methodology`, `result`."""
    sentences: tuple[str, ...]
    """Of the citing paper, where it cites."""


@dataclass(frozen=True)
class Citations:
    """A page of a citation graph's edges at one paper: the influential first, then the newest."""

    edges: tuple[Citation, ...]
    offset: int
    total: int
    """That were fetched and can be paged through."""
    more: bool
    """Whether the service knows of others that were not fetched."""


@dataclass(frozen=True)
class Entry:
    """A line of a paper's contents."""

    name: str
    """What `section` takes, and a Finding cites: `4.2 Main results`, `Table 4`, `Abstract`, `References`."""
    level: int
    """1 for a section, 2 for a subsection …; a table stands one below the section that it is in."""
    chars: int
    """Of its text, with all that is below it."""
    caption: str = ""
    """Of a table."""


@dataclass(frozen=True)
class Contents:
    """What a paper holds."""

    paper_id: str
    title: str
    entries: tuple[Entry, ...]
    source: Literal["arxiv_html", "ar5iv", "pdf"]
    url: str


@dataclass(frozen=True)
class Passage:
    """A cut of a section or table, in Markdown."""

    paper_id: str
    section: str
    """As the contents call it."""
    text: str
    offset: int
    """Characters of the section before this cut."""
    total: int
    """Characters of the section."""
    source: Literal["arxiv_html", "ar5iv", "pdf"]
    url: str
    title: str
    """Of the paper."""
    so_far: str
    """The section up to the end of this cut: a sentence may go over the seam to the one before."""

    @property
    def next_offset(self) -> int | None:
        """Where to read on; None at the end."""
        end = self.offset + len(self.text)
        return end if end < self.total else None
