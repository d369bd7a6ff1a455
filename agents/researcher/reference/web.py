"""A page of the web, as Markdown without what surrounds it; a PDF as text."""

from __future__ import annotations

import re
from urllib.parse import urldefrag, urlsplit

from agents.researcher.library import Library
from agents.researcher.reference import github
from agents.researcher.reference.conversion import page_text
from agents.researcher.reference.pages import Piece, show

_ON_GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)/(?:blob|raw)/([^/]+)/(.+)")


def read(library: Library, url: str, section: str = "", offset: int = 0) -> Piece:
    """The page's contents and beginning, or one section by heading or number, from character `offset` on.

    A file that GitHub shows is read as a file. Everything else is asked for without a token, as nobody: what only the
    person may see is none of a page's business that named the address. Raises BadInput for an address that the library
    does not open, and for a page that holds no text.
    """
    address, _ = urldefrag(url.strip())
    if on_github := _ON_GITHUB.fullmatch(address):
        repo, ref, path = on_github.groups()
        return github.read_file(library, repo, path, ref=ref)
    page = library.without_tokens().get(address)
    text = page_text(page.content, page.media_type, urlsplit(page.url).path)
    return show(page.url, text, section, offset)
