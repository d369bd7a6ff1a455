"""What a report is made of, before it is Markdown or HTML: sections of paragraphs, tables, plots and the like."""

from __future__ import annotations

from dataclasses import dataclass, field

Cell = str


@dataclass(frozen=True)
class Paragraph:
    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Bullets:
    lines: tuple[str, ...]
    kind: str = "bullets"


@dataclass(frozen=True)
class Facts:
    """Names with their values."""

    rows: tuple[tuple[str, Cell], ...]
    kind: str = "facts"


@dataclass(frozen=True)
class Grid:
    """A table with a caption; the first cell of a row names it."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[int, ...] = ()
    """Columns that hold numbers."""
    kind: str = "grid"


@dataclass(frozen=True)
class Node:
    """An experiment in the tree."""

    title: str
    branch: str
    """Why it was grown: draft, debug, improve or ablate."""
    mark: str
    """One word for what became of it: the verdict."""
    score: str
    change: str
    lines: tuple[str, ...] = ()
    """Why it was tried, and what else there is to say."""
    children: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Tree:
    roots: tuple[Node, ...]
    kind: str = "tree"


@dataclass(frozen=True)
class Code:
    """Commands, to be copied."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Plot:
    """A picture; `alt` says in words what it shows."""

    name: str
    caption: str
    alt: str
    svg: str = ""
    kind: str = "plot"


Block = Paragraph | Bullets | Facts | Grid | Tree | Code | Plot


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    blocks: tuple[Block, ...] = field(default=())
