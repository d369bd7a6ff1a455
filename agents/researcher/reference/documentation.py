"""The documentation of the Hugging Face libraries: its pages, found and read by section."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agents.researcher.addresses import SERVICES, base
from agents.researcher.library import DAY, Library, NotFound, Page
from agents.researcher.reference.conversion import page_text
from agents.researcher.reference.docstrings import brief
from agents.researcher.reference.modules import version_of
from agents.researcher.reference.pages import Piece, show
from shared_memory.errors import BadInput, Unavailable

_LINK = re.compile(r"^\s*[-*]\s+\[([^\]]+)\]\(([^)\s]+)\)")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_PAGE = re.compile(r"[A-Za-z0-9][\w./-]*")
LEARN = ("course", "cookbook")
"""How the names of what is documented elsewhere end."""


@dataclass(frozen=True)
class Entry:
    """A page that a package's documentation has."""

    name: str
    """As it is read: `sft_trainer`, `package_reference/lora`."""
    title: str


def find_pages(library: Library, package: str, words: str = "", limit: int = 20) -> str:
    """Pages of a package's documentation that fit `words`, best first, one a line; without words all of them.

    Names and titles are looked at first, then the service's own search in what the pages say. Raises BadInput for a
    package that has no documentation there.
    """
    entries = _entries(library, package)
    tokens = re.findall(r"\w+", words.lower())
    scored = [(sum(token in f"{each.name} {each.title}".lower() for token in tokens), each) for each in entries]
    fitting = [each for score, each in sorted(scored, key=lambda pair: -pair[0]) if score] if tokens else entries
    lines = [f"- {each.name} — {each.title}" for each in fitting[:limit]]
    if len(fitting) > limit:
        lines.append(f"… and {len(fitting) - limit} more; give more words")
    if tokens:
        lines += _by_content(library, package, words, limit)
    if not lines:
        return f"{package}: none of {len(entries)} pages fits `{words}`; leave the words out to see them all"
    return "\n".join([f"{package}: {len(entries)} pages", *lines])


def _entries(library: Library, package: str) -> list[Entry]:
    root = _root(package)
    try:
        listing = library.get(f"{root}/llms.txt", fresh_for=DAY).text
    except NotFound as error:
        raise BadInput(
            f"huggingface.co has no documentation of `{package}`; look at the installed library, or at its repository"
        ) from error
    links = [found.groups() for line in listing.splitlines() if (found := _LINK.match(line))]
    return [Entry(_name_of(package, address), title) for title, address in links]


def _root(package: str) -> str:
    if not _NAME.fullmatch(package):
        raise BadInput(f"`{package}` is no name of a package; write it as in trl, peft or transformers")
    return f"{base('hub')}/{_path(package)}"


def _path(package: str) -> str:
    return f"{'learn' if package.endswith(LEARN) else 'docs'}/{package}"


def address_of(package: str, page: str) -> str:
    """Where a person reads a page, whatever mirror it came from."""
    return f"{SERVICES['hub'].base}/{_path(package)}/{page}"


def _name_of(package: str, address: str) -> str:
    """A page's name, without the version and the language that its address may have."""
    path = urlsplit(address).path.partition(f"/{package}/")[2].removesuffix(".md")
    return re.sub(r"^(?:main/|v\d[^/]*/)?(?:en/)?", "", path)


def _by_content(library: Library, package: str, words: str, limit: int) -> list[str]:
    """Sections that speak of the words, as the service's search finds them; nothing where it does not answer."""
    query = {"q": words.lower()[:200], "product": package}

    def read(page: Page) -> list[str]:
        return [_found_line(package, each) for each in page.json()[:limit]]

    try:
        return library.understood(read, f"{base('hub')}/api/docs/search", query, fresh_for=DAY)
    except (BadInput, Unavailable):
        return ["(the search in what the pages say does not answer; only names and titles were looked at)"]


def _found_line(package: str, found: dict[str, Any]) -> str:
    name = _name_of(package, str(found.get("source_page_url", "")))
    section = found.get("heading2") or found.get("heading1") or ""
    said = brief(re.sub(r"<[^>]*>", " ", str(found.get("text", ""))), 160)
    return f"- {name}, section “{section}” — {said}"


def read_page(
    library: Library, package: str, page: str, section: str = "", offset: int = 0, version: str = ""
) -> Piece:
    """A page such as `sft_trainer`: its contents and beginning, or one section, from character `offset` on.

    version: `main` or a release such as `v1.16.0`; empty is that of what is installed, where it has pages.
    Raises BadInput for a page or section that is not there, with those that are.
    """
    name = page.strip("/ ").removesuffix(".md")
    if not _PAGE.fullmatch(name) or ".." in name:
        raise BadInput(f"`{page}` is no name of a page; find the pages of {package} first")
    installed = version_of(package) if not version else ""
    wanted = version or (f"v{installed}" if installed else "")
    found = _fetch(library, package, name, wanted)
    if found is None and not version:
        wanted, found = "", _fetch(library, package, name, "")
    if found is None:
        names = [entry.name for entry in _entries(library, package)]
        near = difflib.get_close_matches(name, names, 4, 0.4) or [each for each in names if name in each][:4]
        raise BadInput(f"{package} has no page `{page}`; nearest: {', '.join(near or names[:8])}")
    text = page_text(found.content, found.media_type)
    return show(f"{package} {wanted or '(newest)'}: {name}", text, section, offset)


def _fetch(library: Library, package: str, name: str, version: str) -> Page | None:
    """A page as Markdown, or as HTML where a release has no Markdown yet; None where there is none."""
    root = f"{_root(package)}/{version}/en" if version else _root(package)
    for ending in (".md", ""):
        try:
            return library.get(f"{root}/{name}{ending}", fresh_for=None if version.startswith("v") else DAY)
        except NotFound:
            continue
    return None
