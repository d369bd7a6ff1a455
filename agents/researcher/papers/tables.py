"""A table of HTML as rows of text, and as Markdown: merged cells are written out wherever they reach."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from agents.researcher.papers.inline import classes

if TYPE_CHECKING:
    from bs4 import Tag

WIDEST = 60
"""Columns or rows that a merged cell may span; more is a fault, or meant to fill the memory."""


def is_table(tag: Tag) -> bool:
    return tag.name == "table" or "ltx_tabular" in classes(tag)


def rows_of(table: Tag, text: Callable[[Tag], str]) -> list[list[str]]:
    """The cells of a table, row by row, without empty rows; a table inside a cell is part of that cell's text."""
    rows: list[list[str]] = []
    reaching: dict[int, tuple[int, str]] = {}
    for row in table.find_all(lambda tag: tag.name == "tr" or "ltx_tr" in classes(tag)):
        if row.find_parent(is_table) is not table:
            continue
        cells, reaching = _written_out(row, reaching, text)
        if any(cells):
            rows.append(cells)
    return rows


def _written_out(
    row: Tag, reaching: dict[int, tuple[int, str]], text: Callable[[Tag], str]
) -> tuple[list[str], dict[int, tuple[int, str]]]:
    """The cells of one row, and which reach on into the next: column → rows left and text."""
    cells: list[str] = []
    onward: dict[int, tuple[int, str]] = {}

    def place(content: str, deep: int) -> None:
        if deep > 1:
            onward[len(cells)] = deep - 1, content
        cells.append(content)

    def fill() -> None:
        while len(cells) in reaching:
            left, content = reaching[len(cells)]
            place(content, left)

    own = list(_cells(row))
    for cell in own:
        fill()
        content, wide = text(cell), _span(cell, "colspan")
        alone = len(own) == 1 and wide > 1  # a heading across the whole table is said once
        for repeat in range(wide):
            place("" if alone and repeat else content, _span(cell, "rowspan"))
    fill()
    return cells, onward


def _cells(row: Tag) -> Iterator[Tag]:
    for tag in row.find_all(True, recursive=False):
        if tag.name in ("td", "th") or classes(tag) & {"ltx_td", "ltx_th"}:
            yield tag


def _span(cell: Tag, kind: str) -> int:
    """How many columns or rows a cell covers; LaTeXML's spans say it in a class."""
    said = [str(cell.get(kind) or ""), *(name.removeprefix(f"ltx_{kind}_") for name in classes(cell))]
    return next((min(int(value), WIDEST) for value in said if re.fullmatch(r"[1-9]\d{0,5}", value)), 1)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Empty columns are left out; a table of one column is lines of text."""
    width = max(map(len, rows), default=0)
    full = [[*row, *[""] * (width - len(row))] for row in rows]
    kept = [column for column in range(width) if any(row[column] for row in full)]
    lines = [[row[column].replace("|", "\\|") for column in kept] for row in full]
    if len(kept) < 2:
        return "\n".join(" ".join(line) for line in lines)
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "| " + " | ".join("---" for _ in kept) + " |", *body])
