"""A paper's PDF as text: lines in reading order, headings told by their numbers, tables by their captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from agents.researcher.papers.document import Document, Part
from agents.researcher.pdf_pages import pages_of
from shared_memory.errors import BadInput

UNNUMBERED = re.compile(
    r"(abstract|introduction|related work|conclusions?|discussion|limitations|references|bibliography"
    r"|acknowledge?ments?|appendix|appendices|supplementary material)\W*$",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"((?:\d{1,2}|[A-Z])(?:\.\d{1,2}){0,3})\.?\s+(\D.{2,90})$")
CAPTION = re.compile(r"(Table)\s+(\d{1,2}|[A-Z]\d{0,2}|[IVX]+)\s*[.:|]\s*(.*)$")
FURNITURE = re.compile(r"(\d{1,3}|arXiv:\d{4}\.\d+\S*\s.*|(page\s+)?\d+\s*(of|/)\s*\d+)", re.IGNORECASE)
"""Page numbers and the stamp at the margin."""
LONE_NUMBER = re.compile(r"\d{1,2}(?:\.\d{1,2}){0,3}\.?")
"""Of a heading whose title is on the next line, as some files have it."""
RUNNING = 3
"""Pages on which the same first or last line makes it a running head."""
AROUND = 60
"""Lines of a table on one side of its caption, at most."""
NEAR = 10
"""Lines of a caption and a head between its beginning and the first row."""


def parse(content: bytes) -> Document | None:
    """None where the file cannot be read, or holds pictures of pages instead of text."""
    try:
        pages = pages_of(content)
    except BadInput:
        return None
    lines = list(_lines([text.splitlines() for text in pages.texts]))
    if sum(map(len, lines)) < 500:
        return None
    return Document(pages.title or next((line for line in lines if len(line) > 8), ""), tuple(_parts(lines)))


def _lines(pages: Sequence[Sequence[str]]) -> Iterator[str]:
    """What authors wrote: without page numbers and running heads, words at line ends whole again."""
    ends = Counter(line.strip() for page in pages for line in {*page[:1], *page[-1:]})
    for page in pages:
        held = ""
        for place, raw in enumerate(page):
            line = held + " ".join(raw.split())
            held = ""
            if LONE_NUMBER.fullmatch(line) and 0 < place < len(page) - 1 and page[place + 1][:1].isupper():
                held = f"{line} "
            elif not line or FURNITURE.fullmatch(line) or ends[line] >= RUNNING:
                continue
            elif re.search(r"[a-z]{2}-$", line):
                held = line if re.search(r"\b\w+-\w+-$", line) else line[:-1]
            else:
                yield line
        if held:
            yield held.strip()


def _parts(lines: Sequence[str]) -> Iterator[Part]:
    """Sections as their headings part them, each followed by the tables in it."""
    number, title, level = "", "Text", 1
    own: list[str] = []
    last = ""

    def closed() -> Iterator[Part]:
        if own or number:
            yield Part(number, title, level, _paragraphs(own))
            yield from _tables(own, level + 1)

    for line in lines:
        heading = _heading(line, last)
        if heading is None:
            own.append(line)
            continue
        yield from closed()
        number, title = heading
        level = number.count(".") + 1
        last, own = number or last, []
    yield from closed()


def _heading(line: str, last: str) -> tuple[str, str] | None:
    """Number and title; a number counts only where it follows the last one, so that no row of a table does."""
    if UNNUMBERED.fullmatch(line):
        return "", line.rstrip(" .:").title() if line.isupper() else line.rstrip(" .:")
    match = NUMBERED.fullmatch(line)
    if match is None or not _follows(match[1], last) or not _is_title(match[2]):
        return None
    return match[1], match[2].strip()


def _is_title(text: str) -> bool:
    digits = sum(map(str.isdigit, text))
    return (
        text[0].isupper() and not text.endswith((",", ";", ".")) and digits * 4 < len(text) and len(text.split()) < 14
    )


def _follows(number: str, last: str) -> bool:
    """Whether a section's number may come next: 1 first, then 2 or 1.1 after 1; A after the numbers."""
    parts, before = number.split("."), last.split(".") if last else []
    depth = len(parts)
    if depth == len(before) + 1 and parts[:-1] == before:
        return parts[-1] in ("1", "A")
    if depth > len(before) or parts[:-1] != before[: depth - 1]:
        return False
    head, previous = parts[-1], before[depth - 1]
    if head.isdigit() and previous.isdigit():
        return int(head) == int(previous) + 1
    if head.isalpha():
        return head == ("A" if previous.isdigit() else chr(ord(previous) + 1))
    return False


def _paragraphs(lines: Sequence[str]) -> str:
    """Lines run on into one another, unless the last one is short and ends a sentence."""
    usual = sorted(map(len, lines))[len(lines) * 3 // 4] if lines else 0
    text = ""
    for line in lines:
        text += line
        text += "\n\n" if len(line) < usual * 0.8 and line.endswith((".", ":", "?", "!")) else "\n"
    return text.strip()


def _tables(lines: Sequence[str], level: int) -> Iterator[Part]:
    """Each caption with the rows of numbers next to it: below where there are some, else above."""
    for place, line in enumerate(lines):
        match = CAPTION.match(line)
        if match is None:
            continue
        after = list(lines[place + 1 : place + 1 + AROUND])
        after = after[: next((index for index, one in enumerate(after) if CAPTION.match(one)), len(after))]
        start = next((index for index in range(min(NEAR, len(after))) if len(_run(after[index:])) > 1), None)
        if start is not None:
            rows = [line, *after[:start], *_run(after[start:])]
        else:
            rows = [*_run(list(reversed(lines[max(place - AROUND, 0) : place])))[::-1], line]
        yield Part(f"Table {match[2]}", match[3].strip(), level, "\n".join(rows), is_table=True)


def _run(lines: Sequence[str]) -> list[str]:
    """The lines from the first one on that look like rows, one headline among them allowed."""
    found: list[str] = []
    for index, line in enumerate(lines):
        follows = index + 1 < len(lines) and _is_row(lines[index + 1])
        if not _is_row(line) and not (follows and len(line) < 80 and not line.endswith(".")):
            break
        found.append(line)
    return found


def _is_row(line: str) -> bool:
    words = line.split()
    return sum(bool(re.search(r"\d", word)) for word in words) >= max(1, len(words) // 3)
