"""A paper as it can be read: numbered sections and tables, each of which can be asked for by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from agents.researcher.papers.records import Entry
from shared_memory.errors import BadInput

SHOWN = 12
"""Names in an error message."""


@dataclass(frozen=True)
class Part:
    """A heading with the text up to the next one, or a table."""

    number: str
    """`4.2`, `A`; `Table 4` for a table; empty where the source has none."""
    title: str
    """Of a table: its caption."""
    level: int
    """1 for a section, 2 for a subsection …"""
    text: str
    """Markdown, without what is below it. A table is in the text of its section as well."""
    is_table: bool = False

    @property
    def name(self) -> str:
        if self.is_table:
            return self.number
        return f"{self.number} {self.title}".strip()


@dataclass(frozen=True)
class Document:
    """The parts of a paper, in its order."""

    title: str
    parts: tuple[Part, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each part is asked for by; the second of a name is `Setup (2)`."""
        names: list[str] = []
        times: dict[str, int] = {}
        for part in self.parts:
            times[part.name] = times.get(part.name, 0) + 1
            names.append(part.name if times[part.name] == 1 else f"{part.name} ({times[part.name]})")
        return tuple(names)

    def entries(self) -> tuple[Entry, ...]:
        return tuple(
            Entry(self.names[index], part.level, len(self.text_of(index)), part.title if part.is_table else "")
            for index, part in enumerate(self.parts)
        )

    def text_of(self, index: int) -> str:
        """A part with its heading and all that is below it."""
        part = self.parts[index]
        if part.is_table:
            return part.text
        below = [part, *self._below(index)]
        return "\n\n".join(filter(None, (_with_heading(one, one.level - part.level + 2) for one in below)))

    def find(self, name: str) -> int:
        """Where the part of a name is; raises BadInput with the names that there are."""
        wanted = _key(name)
        for key in map(_key, self.names), _numbers(self.parts), _titles(self.parts):
            keys = list(key)
            if wanted in keys:
                return keys.index(wanted)
        names = self.names
        starts = [index for index, one in enumerate(names) if wanted and _key(one).startswith(f"{wanted} ")]
        if len(starts) == 1:
            return starts[0]
        near = get_close_matches(name, names, n=SHOWN, cutoff=0.5) or names[:SHOWN]
        raise BadInput(f"the paper has no section `{name}`; take one of: {', '.join(f'`{one}`' for one in near)}")

    def _below(self, index: int) -> Iterator[Part]:
        for part in self.parts[index + 1 :]:
            if part.level <= self.parts[index].level:
                return
            if not part.is_table:
                yield part


def _with_heading(part: Part, depth: int) -> str:
    return f"{'#' * min(depth, 6)} {part.name}\n\n{part.text}".strip()


def _key(name: str) -> str:
    """What of a name counts when it is looked for."""
    bare = re.sub(r"^\s*(?:section|sec\.|appendix|§)\s*(?=[A-Z]?\d|[A-Z]\b)", "", name.strip(), flags=re.IGNORECASE)
    bare = re.sub(r"\b(tab\.|tbl\.?)\s*", "table ", bare, flags=re.IGNORECASE)
    bare = re.sub(r"\b(table)(\d)", r"\1 \2", bare, flags=re.IGNORECASE)
    return " ".join(re.sub(r"[^\w.]+", " ", bare).casefold().split()).rstrip(".")


def _numbers(parts: Sequence[Part]) -> Iterator[str]:
    return (_key(part.number) if part.number else "\0" for part in parts)


def _titles(parts: Sequence[Part]) -> Iterator[str]:
    return (_key(part.title) if part.title else "\0" for part in parts)
