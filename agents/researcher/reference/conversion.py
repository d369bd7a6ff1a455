"""Web pages, PDFs and notebooks as Markdown: what they say, without what surrounds it, and nothing of theirs run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from agents.researcher.papers.inline import mark_raised
from agents.researcher.pdf_pages import pages_of
from shared_memory.errors import BadInput

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

ASIDE = (
    "script", "style", "nav", "header", "footer", "aside", "form", "button", "svg", "noscript", "iframe", "template",
    "dialog", "object", "embed", "canvas", "video", "audio", "select", "input",
)  # fmt: skip
"""Elements that are not what a page is about."""
_SURROUNDS = re.compile(r"(?i)\b(?:nav(?:bar)?|menu|sidebar|breadcrumbs?|cookie[\w-]*|footer|toc|share|newsletter)\b")
_HIDDEN = re.compile(
    r"(?i)display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?!\.\d*[1-9])|opacity\s*:\s*0(?![.\d])"
)
LONGEST_OUTPUT = 600
"""Characters of the output of a notebook's cell."""
LARGEST = 2_000_000
"""Bytes of HTML; a larger page is not taken apart: it takes ten seconds a million."""
DEEPEST = 150
"""Levels of elements; pages that people write have fifty."""
_BLANKS = re.compile(r"\s{200,}")
"""What no page needs, and the conversion takes hours for."""


def page_text(content: bytes, media_type: str, name: str = "") -> str:
    """A page as Markdown, by its media type or by what it begins with. Raises BadInput for one that holds no text."""
    if media_type == "application/pdf" or content[:5] == b"%PDF-":
        return pdf_text(content)
    if name.endswith(".ipynb"):
        return notebook_text(content.decode(errors="replace"))
    start = content[:512].lstrip().lower()
    if media_type in {"text/html", "application/xhtml+xml"} or start.startswith((b"<!doctype html", b"<html")):
        return html_text(content)
    text_like = media_type.startswith("text/") or media_type.endswith(("json", "xml", "yaml", "markdown", "javascript"))
    if not text_like and b"\0" in content[:4096]:
        raise BadInput(f"this page is {media_type or 'binary data'}, which holds no text; take another source")
    return content.decode(errors="replace")


def html_text(content: bytes) -> str:
    """The main part of a web page, without navigation, scripts and what nobody sees."""
    from bs4 import BeautifulSoup, Comment
    from markdownify import MarkdownConverter

    if len(content) > LARGEST:
        raise BadInput(f"this page has {len(content):,} bytes; look for a shorter source of the same")
    soup = BeautifulSoup(content, "lxml")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    if _is_deep(soup):
        raise BadInput(f"this page is nested more than {DEEPEST} levels deep; take another source")
    main = _main(soup)
    for blank in main.find_all(string=_BLANKS):
        blank.replace_with(_BLANKS.sub("\n", blank))
    for element in [*main.find_all(ASIDE), *main.find_all(_is_unseen)]:
        if not element.decomposed:
            element.decompose()
    whole = len(main.get_text())
    for element in main.find_all(class_=_SURROUNDS):
        if not element.decomposed and len(element.get_text()) < whole / 2:
            element.decompose()
    mark_raised(main)
    converter = MarkdownConverter(
        heading_style="ATX", bullets="-", strip=["img"], code_language_callback=_language, escape_underscores=False,
        escape_asterisks=False, strip_pre=None,
    )  # fmt: skip
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<![ \t])[ \t]+\n", "\n", converter.convert_soup(main))).strip()
    text = re.sub(r"(?m)\n\n(?=```$)", "\n", text)
    if not text:
        raise BadInput("this page shows no text without running its scripts; take another source")
    return f"# {title}\n\n{text}" if title and not re.search(r"(?m)^# ", text) else text


def _main(soup: BeautifulSoup) -> Tag:
    from bs4 import Tag

    for choice in (soup.find("main"), soup.find(role="main"), soup.find("article"), soup.body):
        if isinstance(choice, Tag) and choice.get_text(strip=True):
            return choice
    return soup


def _is_deep(soup: BeautifulSoup) -> bool:
    from bs4 import Tag

    depths = {id(soup): 0}
    for element in soup.descendants:
        if isinstance(element, Tag):
            depths[id(element)] = depths[id(element.parent)] + 1
    return max(depths.values()) > DEEPEST


def _is_unseen(element: Tag) -> bool:
    return (
        element.has_attr("hidden")
        or element.get("aria-hidden") == "true"
        or bool(_HIDDEN.search(str(element.get("style") or "")))
    )


def _language(element: Tag) -> str:
    """Of a block of code, as its classes tell it."""
    inner = element.find("code")
    classes = [*(element.get("class") or []), *((inner.get("class") or []) if inner else [])]
    return next(
        (found[1] for each in classes if (found := re.fullmatch(r"(?:language|lang|highlight)-(\w+)", each))), ""
    )


def pdf_text(content: bytes) -> str:
    """The text of a PDF, a heading for every page. Raises BadInput for one that cannot be read or holds none."""
    pages = pages_of(content)
    shown = [f"## Page {number}\n\n{text.strip()}" for number, text in enumerate(pages.texts, 1) if text.strip()]
    left = pages.total - len(pages.texts)
    more = [f"… {left} more pages are not read"] if left else []
    return "\n\n".join([*shown, *more])


def notebook_text(text: str) -> str:
    """A notebook's cells: prose as it is, code in fences, of its outputs the beginning of their text."""
    try:
        cells = json.loads(text)["cells"]
        metadata = json.loads(text).get("metadata") or {}
        language = str((metadata.get("language_info") or {}).get("name") or "python")
        parts = [part for number, cell in enumerate(cells, 1) for part in _cell(cell, number, language)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput("this is no notebook of format 4; read the file it was made from") from error
    return "\n\n".join(parts)


def _cell(cell: dict[str, Any], number: int, language: str) -> list[str]:
    source = _joined(cell.get("source")).strip("\n")
    if cell["cell_type"] != "code":
        return [source] if source.strip() else []
    parts = [_fenced(source, language, f"In [{number}]:")] if source.strip() else []
    told = "".join(_output(each) for each in cell.get("outputs") or ())
    told = re.sub(r"\x1b\[[0-9;]*m", "", told).strip("\n")
    if told:
        more = f"\n… {len(told) - LONGEST_OUTPUT:,} more characters" if len(told) > LONGEST_OUTPUT else ""
        parts.append(_fenced(told[:LONGEST_OUTPUT] + more, "text", f"Out [{number}]:"))
    return parts


def _output(output: dict[str, Any]) -> str:
    """Its text; a picture or a widget has none."""
    if output.get("output_type") == "stream":
        return _joined(output.get("text"))
    if output.get("output_type") == "error":
        return f"{output.get('ename')}: {output.get('evalue')}\n"
    return _joined((output.get("data") or {}).get("text/plain")) + "\n"


def _joined(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value or "")


def _fenced(text: str, language: str, head: str) -> str:
    longest = max((len(found) for found in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{head}\n{fence}{language}\n{text}\n{fence}"
