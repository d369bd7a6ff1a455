"""A record of a file, seen by the parts of a row that its columns stand for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agents.data_engineer.formats.columns import Layout

UnusableKind = Literal[
    "not_text",  # a list, a table or bytes where text belongs
    "bad_message",  # an entry of a conversation that is no message
    "unknown_role",
    "no_reply",  # a conversation without a turn of the assistant
    "tool_calls",  # a call, or a list of tools, that cannot be read
    "prompt_mismatch",  # chosen and rejected answer different prompts, or not the one beside them
    "no_ranking",  # replies and their ranks do not go together
    "choices",  # no list of two to ten choices
    "answer_not_among_choices",
    "other_columns",  # the row has not the columns of the rows before it
]


class UnusableRow(ValueError):
    """A row that has the columns of its format and something else in them, or has not its columns."""

    def __init__(self, kind: UnusableKind, message: str) -> None:
        super().__init__(message)
        self.kind: UnusableKind = kind


@dataclass(frozen=True, slots=True)
class Cells:
    """What a converter sees of a record."""

    layout: Layout
    record: Mapping[str, Any]
    id: str = ""
    """The id of the row that is made of it."""

    def column(self, part: str) -> str:
        """Empty where the file has no such part."""
        return self.layout.columns.get(part, "")

    def value(self, part: str) -> Any:
        """None where the file has no such part; a column without a name is none."""
        column = self.layout.columns.get(part)
        return None if column is None else self.record.get(column)

    def text(self, part: str) -> str:
        value = self.value(part)
        return "" if value is None else as_text(value, self.column(part))


def as_text(value: Any, column: str) -> str:
    """A value as text: absent ones and NaN are empty, and surrogates that no file can hold are replaced.

    Numbers, dates and decimals are written as Python writes them. Raises UnusableRow for lists, tables and bytes.
    """
    if type(value) is str:
        return value if value.isascii() else _writable(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | dict | bytes | tuple):
        raise UnusableRow("not_text", f"`{column}` holds a {type(value).__name__}, not text")
    return _writable(str(value))


def _writable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def decoded(value: Any) -> Any:
    """A cell of text that holds a JSON list or object, as CSV and Parquet files have them, as that; else the cell."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
