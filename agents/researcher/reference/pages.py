"""Long texts in pieces: what a page contains, its beginning, one of its sections, or what follows a place in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from shared_memory.errors import BadInput

PIECE = 5_500
"""Characters that are shown at once: less than a model is shown of one result."""
MOST_HEADINGS = 80
"""That a table of contents lists."""
LONGEST_HEADING = 300
"""Characters of a line that is taken for one."""
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"^\s*(```+|~~~+)")


class Piece(str):
    """What is shown of a text, below a line that says what it is."""

    own: str
    """What of it stands in the text itself: a tool's words beside it are nobody's to quote."""

    def __new__(cls, shown: str, own: str) -> Piece:
        piece = super().__new__(cls, shown)
        piece.own = own
        return piece


@dataclass(frozen=True)
class Section:
    """Of a Markdown text, with what stands below it."""

    number: int
    """In the order of the text, from 1."""
    level: int
    title: str
    start: int
    """Its first character."""
    end: int
    """The first one after it, and after all that is below it."""


def sections(text: str) -> list[Section]:
    """By the headings of a Markdown text; a `#` in a block of code is none."""
    heads: list[tuple[int, str, int]] = []
    fence, place = "", 0
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark[1]
        found = None if fence or len(line) > LONGEST_HEADING else _HEADING.match(line.rstrip())
        if found:
            heads.append((len(found[1]), _plain(found[2]), place))
        place += len(line)
    ends = [
        next((start for level, _, start in heads[index + 1 :] if level <= own), len(text))
        for index, (own, _, _) in enumerate(heads)
    ]
    return [
        Section(index + 1, level, title, start, end)
        for index, ((level, title, start), end) in enumerate(zip(heads, ends, strict=True))
    ]


def _plain(title: str) -> str:
    """A heading without links and anchors."""
    bare = re.sub(r"\[\[.*?\]\]|\[#?\]\([^)]*\)", "", title)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", bare).strip(" `*\\")


def show(head: str, text: str, section: str = "", offset: int = 0) -> Piece:
    """A piece of a text below `head`, a line that says what it is; contents first where it is long.

    section: a heading, a part of one, or its number. offset: characters from the beginning of the text, or of the
    section. Raises BadInput for a section that is not there, and for an offset beyond the end.
    """
    found = sections(text)
    if section:
        chosen = _choose(found, section)
        text, head = text[chosen.start : chosen.end], f"{head}, section {chosen.number} “{chosen.title}”"
    text = text.strip()
    if not 0 <= offset <= max(len(text) - 1, 0):
        raise BadInput(f"there are {len(text):,} characters; give an offset below that")
    piece = text[offset : offset + PIECE]
    parts = [f"{head} ({len(text):,} characters)"]
    if not section and not offset and len(text) > PIECE and found:
        parts.append(_contents(found))
    left = len(text) - offset - len(piece)
    more = f"\n\n… {left:,} more characters: offset {offset + len(piece)}" if left else ""
    return Piece("\n\n".join([*parts, piece + more]), piece)


def numbered(lines: Sequence[str], first: int, last: int) -> tuple[Piece, int]:
    """Lines `first` to `last` (from 1) with their numbers, at most PIECE characters of them, and the last one shown."""
    shown: list[str] = []
    room = PIECE
    for number in range(first, min(last, len(lines)) + 1):
        line = f"{number:>5}  {lines[number - 1][:PIECE]}"
        room -= len(line) + 1
        if room < 0 and shown:
            break
        shown.append(line)
    end = first + len(shown) - 1
    return Piece("\n".join(shown), "\n".join(line[:PIECE] for line in lines[first - 1 : end])), end


def _contents(found: list[Section]) -> str:
    top = min(each.level for each in found)
    lines = [
        f"{'  ' * (each.level - top)}{each.number}. {each.title} ({each.end - each.start:,})"
        for each in found[:MOST_HEADINGS]
    ]
    more = [f"… and {len(found) - MOST_HEADINGS} more"] if len(found) > MOST_HEADINGS else []
    return "\n".join(["Contents, with characters:", *lines, *more])


def _choose(found: list[Section], section: str) -> Section:
    wanted = " ".join(section.lower().strip(" #").split())
    if wanted.isdecimal() and 1 <= int(wanted) <= len(found):
        return found[int(wanted) - 1]
    titles = [each.title.lower() for each in found]
    for fits in (lambda title: title == wanted, lambda title: wanted in title):
        for each, title in zip(found, titles, strict=True):
            if fits(title):
                return each
    near = difflib.get_close_matches(wanted, titles, 3, 0.5)
    names = [each.title for each in found if each.title.lower() in near] or [each.title for each in found[:8]]
    raise BadInput(f"no section `{section}`; there are {', '.join(f'`{name}`' for name in names) or 'none at all'}")
