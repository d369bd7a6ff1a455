"""A paper's HTML as LaTeXML writes it (arXiv's own HTML, and ar5iv): its sections, tables, mathematics and notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agents.researcher.papers.document import Document, Part
from agents.researcher.papers.inline import APART, classes, clean, inline, mark_raised, mathematics, take_notes
from agents.researcher.papers.tables import is_table, markdown_table, rows_of

if TYPE_CHECKING:
    from bs4 import Tag

SECTIONS = {
    "ltx_part": 1, "ltx_chapter": 1, "ltx_section": 1, "ltx_appendix": 1, "ltx_bibliography": 1, "ltx_abstract": 1,
    "ltx_acknowledgements": 1, "ltx_subsection": 2, "ltx_subsubsection": 3,
}  # fmt: skip
"""Class → level. A paragraph with a title of its own stays in its section."""
UNTITLED = {"ltx_abstract": "Abstract", "ltx_bibliography": "References", "ltx_acknowledgements": "Acknowledgements"}
"""Class → title, where the source has none."""
UNREAD = ("script", "style", "nav", "button", "template", "annotation", "annotation-xml")
UNREAD_CLASSES = ("ltx_ERROR", "ltx_authors", "ltx_dates", "ltx_listing_data", "ltx_pagination", "ltx_TOC")
BLOCKS = frozenset(
    {
        "p", "div", "section", "article", "ul", "ol", "dl", "figure", "table", "pre", "blockquote", "figcaption", "h1",
        "h2", "h3", "h4", "h5", "h6", "header", "footer", "aside", "main",
    }
)  # fmt: skip
FLOATS = frozenset({"ltx_table", "ltx_figure", "ltx_float"})
PROSE = 200
"""Characters of text in a drawing that are read: a box around a prompt, not the labels of a plot."""
ENOUGH = 2000
"""Characters of a paper without a section."""
TABLE = re.compile(r"Tab(?:le|\.)\s*((?:[A-Z]{1,3}[.-]?)?\d+(?:\.\d+)*|[IVXL]+|[A-Z]\b)[\s.:|]*")
NUMBER = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?\s+(?=\S)")


@dataclass
class _Section:
    """A part while it is read."""

    number: str
    title: str
    level: int
    blocks: list[str] = field(default_factory=list)
    below: list[_Section] = field(default_factory=list)
    is_table: bool = False

    def add(self, block: str) -> None:
        if block:
            self.blocks.append(block)

    @property
    def text(self) -> str:
        return "\n\n".join(self.blocks)

    def parts(self) -> Iterator[Part]:
        yield Part(self.number, self.title, self.level, self.text, self.is_table)
        for section in self.below:
            yield from section.parts()


def parse(html: bytes) -> Document | None:
    """None where it is no paper, or one whose text was not converted."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "lxml")
    article = soup.find("article", class_="ltx_document") or soup.find(class_="ltx_document") or soup.find("article")
    if article is None:
        return None
    _tidy(article)
    heading = article.find(class_="ltx_title_document")
    title = inline(heading) if heading else ""
    if heading:
        heading.decompose()
    front = _Section("", "Text", 1)
    _Reader(article).fill(article, front)
    parts = [part for section in front.below for part in section.parts()]
    if len(front.text) > PROSE or not parts:
        parts.insert(0, Part("", front.title, 1, front.text))
    sections = any(not part.is_table and part.title not in UNTITLED.values() and part.title != "Text" for part in parts)
    if not sections and sum(len(part.text) for part in parts) < ENOUGH:
        return None
    return Document(title, tuple(parts))


def _tidy(article: Tag) -> None:
    """Leaves what is read, with every formula as text."""
    for math in article.find_all("math"):
        math.replace_with(mathematics(math))
    for drawing in article.find_all("svg"):
        boxes = drawing.find_all("foreignobject")
        if sum(len(box.get_text()) for box in boxes) > PROSE:
            drawing.name = "div"
            for box in boxes:
                box.name = "div"
        else:
            drawing.decompose()
    for tag in [*article.find_all(UNREAD), *article.find_all(class_=UNREAD_CLASSES)]:
        if not tag.decomposed:
            tag.decompose()
    mark_raised(article)


class _Reader:
    """Puts the blocks of an article into sections."""

    def __init__(self, article: Tag) -> None:
        holders = article.find_all(lambda tag: tag.name in ("table", "figure", "pre") or is_table(tag))
        self._holders = {id(parent) for holder in holders for parent in holder.parents}
        """Tags that hold a block though they may be inline themselves."""

    def fill(self, node: Tag, section: _Section) -> None:
        """Adds the blocks in a tag to a section, and the sections in it below that."""
        from bs4.element import NavigableString, PreformattedString, Tag

        loose: list[str] = []
        notes: list[str] = []
        for child in list(node.children):
            if isinstance(child, Tag):
                if not self._is_block(child):
                    notes += take_notes(child)
                    apart = " " * (child.name in APART)
                    loose.append("" if child.decomposed else f"{apart}{inline_run(child)}{apart}")
                    continue
                section.add(clean("".join(loose)))
                loose.clear()
                self._block(child, classes(child), section)
            elif isinstance(child, NavigableString) and not isinstance(child, PreformattedString):
                loose.append(str(child))
        section.add(clean("".join(loose)))
        section.blocks.extend(notes)

    def _is_block(self, tag: Tag) -> bool:
        return tag.name in BLOCKS or id(tag) in self._holders or is_table(tag) or bool(classes(tag) & FLOATS)

    def _block(self, tag: Tag, kinds: frozenset[str], section: _Section) -> None:
        kind = next((kind for kind in SECTIONS if kind in kinds), "")
        if kind:
            below = _opened(tag, kind, section)
            section.below.append(below)
            self.fill(tag, below)
        elif "ltx_title" in kinds or re.fullmatch("h[1-6]", tag.name):
            title = inline(tag)
            section.add(f"**{title}**" if title else "")
        elif kinds & {"ltx_equation", "ltx_equationgroup", "ltx_eqn_table"}:
            section.add("\n".join(filter(None, (inline(row) for row in tag.find_all("tr")))) or inline(tag))
        elif is_table(tag):
            section.add(markdown_table(rows_of(tag, inline)))
        elif tag.name == "figure" or kinds & FLOATS:
            self._float(tag, section)
        elif tag.name in ("ul", "ol"):
            self._list(tag, section)
        elif "ltx_listing" in kinds or tag.name == "pre":
            lines = [line.get_text() for line in tag.find_all(class_="ltx_listingline")] or [tag.get_text()]
            section.add("```\n" + "\n".join(line.rstrip("\n") for line in lines) + "\n```")
        elif tag.name == "p" and id(tag) not in self._holders:
            notes = take_notes(tag)
            section.add(inline(tag))
            section.blocks.extend(notes)
        else:
            self.fill(tag, section)

    def _float(self, tag: Tag, section: _Section) -> None:
        """A table becomes a part of its own, and stays in its section; of a picture the caption stays."""
        captions = tag.find_all(lambda one: one.name == "figcaption" or "ltx_caption" in classes(one))
        own = next((one for one in captions if _float_of(one) is tag), None)
        notes = take_notes(own) if own else []
        caption = inline(own) if own else ""
        if own:
            own.decompose()
        inside = _Section("", "", section.level)
        inside.add(caption)
        self.fill(tag, inside)
        inside.blocks.extend(notes)
        section.add(inside.text)
        if number := TABLE.match(caption):
            title = caption[number.end() :].strip()
            table = _Section(f"Table {number[1]}", title, section.level + 1, [inside.text], is_table=True)
            section.below.append(table)
        section.below.extend(inside.below)

    def _list(self, tag: Tag, section: _Section) -> None:
        lines = []
        for item in tag.find_all("li", recursive=False):
            if "ltx_bibitem" in classes(item):
                lines.append(f"- {inline(item)}")
                continue
            mark = item.find(class_="ltx_tag_item", recursive=False)
            sign = inline(mark) if mark else ""
            if mark:
                mark.decompose()
            inside = _Section("", "", section.level)
            self.fill(item, inside)
            section.below.extend(inside.below)
            text = inside.text.replace("\n", "\n  ")
            lines.append(f"{sign if re.search('[0-9a-z]', sign, re.IGNORECASE) else '-'} {text}")
        section.add("\n".join(lines))


def inline_run(tag: Tag) -> str:
    """The text of an inline tag, with the spaces at its ends that part it from its neighbours."""
    text = tag.get_text()
    before, after = " " * text[:1].isspace(), " " * text[-1:].isspace()
    return f"{before}{inline(tag)}{after}" if text.strip() else " " * bool(text)


def _float_of(caption: Tag) -> Tag | None:
    return caption.find_parent(lambda tag: tag.name == "figure" or bool(classes(tag) & FLOATS))


def _opened(tag: Tag, kind: str, above: _Section) -> _Section:
    """A section with its heading, which is taken out of the tag."""
    heading = tag.find(class_="ltx_title", recursive=False)
    number, title = "", ""
    if heading:
        take_notes(heading)
        if mark := heading.find(class_="ltx_tag"):
            number = re.sub(r"^(Appendix|Part|Chapter|Section)\s+", "", inline(mark)).rstrip(" .:")
            mark.decompose()
        title = inline(heading)
        if not number and (said := NUMBER.match(title)):
            number, title = said[1], title[said.end() :]
        heading.decompose()
    title = title.rstrip(".:") or UNTITLED.get(kind, "")
    inner = above.level + 1 if above.title != "Text" else 1
    return _Section(number, title, max(SECTIONS[kind], inner))
