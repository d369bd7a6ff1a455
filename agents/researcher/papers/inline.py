"""Words, mathematics and notes inside a block of LaTeXML's HTML, as plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bs4 import Tag

APART = frozenset({"br", "p", "div", "td", "th", "tr", "li", "dt", "dd", "table", "ul", "ol"})
"""Tags whose text does not run on from what is before them."""
RAISED = {"sup": "^", "sub": "_"}
"""Tag → what is written for it."""
NUMBER = re.compile(r"[\d\s.,%+\-−±×≈~<>=()/]+")
_WRAP = re.compile(r"(?:(?<!\\)|(?<=\\\\))%\n\s*")
"""Where LaTeXML breaks a long formula: a comment of TeX, which is no per cent sign."""
_SIGNS = (
    ("\\%", "%"), ("\\pm", "±"), ("\\times", "×"), ("\\approx", "≈"), ("\\sim", "~"), ("{,}", ","), ("\\,", " "),
    ("\\displaystyle", ""), ("\\textstyle", ""),
)  # fmt: skip


def classes(tag: Tag) -> frozenset[str]:
    return frozenset(str(name) for name in tag.get_attribute_list("class") if name)


def clean(text: str) -> str:
    """One line, without the spaces that the conversion leaves before signs."""
    return re.sub(r"\s+([,.;:!?)\]])(?!\d)", r"\1", " ".join(text.split()))


def inline(tag: Tag) -> str:
    """All text in a tag, in one line."""
    from bs4.element import NavigableString, PreformattedString, Tag

    pieces = []
    for node in tag.descendants:
        if isinstance(node, Tag):
            if node.name in APART or "ltx_p" in classes(node):
                pieces.append(" ")
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):
            pieces.append(str(node))
    return clean("".join(pieces))


def mark_raised(root: Tag) -> None:
    """Writes a sign before raised and lowered numbers: as plain text 85.3¹ would be 85.31, and 10⁻⁵ be 10-5."""
    for tag in root.find_all(list(RAISED)):
        before = str(tag.find_previous(string=True) or "")[-1:]
        stands_at_it = before.isdigit() if tag.name == "sub" else before.strip(" \n\t^")
        if stands_at_it and re.match(r"\s*[\d+\-−]", tag.get_text()):
            tag.insert(0, RAISED[tag.name])


def mathematics(math: Tag) -> str:
    """A formula in TeX between dollars; a bare number as it is."""
    source = _WRAP.sub("", str(math.get("alttext") or math.get_text()))
    for written, sign in _SIGNS:
        source = source.replace(written, sign)
    source = " ".join(re.sub(r"\s*±\s*", " ± ", source).split())
    if not source or NUMBER.fullmatch(source):
        return source
    return f"${source}$"


def take_notes(tag: Tag) -> list[str]:
    """Takes the notes out of a tag (itself, where it is one), so that its sentences are whole, and gives them back."""
    notes = []
    for note in [tag, *tag.find_all(class_="ltx_note")]:
        if note.decomposed or "ltx_note" not in classes(note):
            continue
        content = note.find(class_="ltx_note_content") or note
        for mark in content.find_all(class_=("ltx_note_mark", "ltx_tag_note", "ltx_note_type")):
            mark.decompose()
        if text := inline(content):
            notes.append(f"[note: {text}]")
        note.decompose()
    return notes
