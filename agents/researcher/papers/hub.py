"""Papers as their pages on Hugging Face have them: community, models, data sets and code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agents.researcher.addresses import base
from agents.researcher.library import DAY, Library, Page
from agents.researcher.papers.ids import arxiv_id
from agents.researcher.papers.records import Linked, Paper

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo, PaperInfo, SpaceInfo

FRESH = 7 * DAY
"""For so long a search or a description is not asked again."""


def search(library: Library, query: str, limit: int) -> list[Paper]:
    def read(page: Page) -> list[Paper]:
        return [_paper(_info(entry)) for entry in page.json()[:limit]]

    params = {"q": query[:250], "limit": str(limit)}
    return library.understood(read, f"{base('hub')}/api/papers/search", params, fresh_for=FRESH)


def describe(library: Library, name: str) -> tuple[Paper, tuple[Linked, ...]]:
    """A paper and what its page is linked with; raises NotFound where it has no page. name: an arXiv id."""
    return library.understood(_described, f"{base('hub')}/api/papers/{quote(name)}", fresh_for=FRESH)


def _described(page: Page) -> tuple[Paper, tuple[Linked, ...]]:
    info = _info(page.json())
    linked = [Linked("code", info.github_repo)] if info.github_repo else []
    linked += [Linked("page", info.project_page)] if info.project_page else []
    linked += [_linked("model", one) for one in info.linked_models or ()]
    linked += [_linked("dataset", one) for one in info.linked_datasets or ()]
    linked += [_linked("space", one) for one in info.linked_spaces or ()]
    return _paper(info), tuple(linked)


def _info(entry: Any) -> PaperInfo:
    """As the Hub's own client reads it; the request itself is the library's, which keeps the page."""
    from huggingface_hub.hf_api import PaperInfo

    around = {key: value for key, value in entry.items() if key != "paper"}
    return PaperInfo(**{**around, **(entry.get("paper") or {})})


def _paper(info: PaperInfo) -> Paper:
    name = arxiv_id(str(info.id or ""))
    return Paper(
        id=name or str(info.id),
        title=" ".join((info.title or "").split()),
        authors=tuple(author.name for author in info.authors or () if author.name),
        published=info.published_at.date().isoformat() if info.published_at else "",
        abstract=" ".join((info.summary or "").split()),
        arxiv_id=name,
        upvotes=info.upvotes,
        found_by=("hub",),
    )


def _linked(kind: Any, one: ModelInfo | DatasetInfo | SpaceInfo) -> Linked:
    return Linked(kind, one.id, getattr(one, "likes", None) or 0, getattr(one, "downloads", None) or 0)
