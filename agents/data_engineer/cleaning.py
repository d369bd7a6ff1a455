"""What the text of rows is cleaned of: broken characters, secrets, refusals, wrong lengths.

Like the filters beside it, pure functions from rows to (kept rows, Step). What they take for a fault is what the audit
takes for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import polars as pl

from agents.data_engineer.checks.check import ADDRESS
from agents.data_engineer.checks.privacy import has_secret
from agents.data_engineer.checks.text import BEYOND_ASCII, CONTROL, CONTROL_BEYOND_ASCII
from agents.data_engineer.filters import Filtered
from agents.data_engineer.formats.rows import Message, Row
from agents.data_engineer.phrases import refuses
from shared_memory.records import Step
from shared_memory.redaction import suspect

_TERMINAL = r"\x1B\[[0-9;?]*[ -/]*[@-~]"
"""A terminal's colours: without them `[31m` would stay."""
_CONTROL = re.compile(f"{_TERMINAL}|{CONTROL}|{CONTROL_BEYOND_ASCII}")


def repair_text(rows: Sequence[Row]) -> Filtered:
    """UTF-8 that was read as another encoding decoded again (by ftfy), and control characters taken out.

    No row goes. What is right already stays as it is, to the byte: no quotes are straightened, no form is normalised.
    """
    suspects = _texts(rows).str.contains(f"{CONTROL}|{BEYOND_ASCII}")
    kept = [_repaired(row) if suspect else row for row, suspect in zip(rows, suspects, strict=True)]
    changed = sum(new != old for new, old in zip(kept, rows, strict=True))
    note = f"{changed} rows changed: wrong decoding mended, control characters taken out" if changed else ""
    return kept, Step(name="repair_text", rows_in=len(rows), rows_out=len(rows), note=note)


def _repaired(row: Row) -> Row:
    if repaired(text := row.text) == text:
        return row
    return replace(
        row,
        question=repaired(row.question),
        prompt=_each(row.prompt),
        completion=_each(row.completion),
        rejected=_each(row.rejected),
        choices=None if row.choices is None else tuple(map(repaired, row.choices)),
        explanation=repaired(row.explanation),
        passage=repaired(row.passage),
    )


def _each(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(
        replace(
            message,
            content=repaired(message.content),
            reasoning=repaired(message.reasoning),
            tool_calls=repaired(message.tool_calls),
        )
        for message in messages
    )


def repaired(text: str) -> str:
    """The text without control characters, decoded again where ftfy is sure that it was decoded wrongly."""
    if not text.isascii():
        from ftfy import fix_encoding
        from ftfy.badness import is_bad

        if is_bad(text):
            text = fix_encoding(text)
    return _CONTROL.sub("", text)


def drop_secrets(rows: Sequence[Row]) -> Filtered:
    """Without rows that hold keys or passwords by their shape: a model may repeat what it has read once."""
    suspects = _texts(rows).str.contains(suspect())
    return _without(
        rows,
        "drop_secrets",
        [bool(suspect) and has_secret(row.text) for suspect, row in zip(suspects, rows, strict=True)],
    )


def drop_refusals(rows: Sequence[Row]) -> Filtered:
    """Without rows whose reply declines, or speaks of being a language model (see phrases.py)."""
    replies = ["\n".join(message.content for message in row.completion) or row.explanation for row in rows]
    return _without(rows, "drop_refusals", refuses(pl.Series(replies, dtype=pl.String)).to_list())


def drop_urls(rows: Sequence[Row]) -> Filtered:
    """Without rows that hold web addresses."""
    return _without(rows, "drop_urls", _texts(rows).str.contains_any(["http://", "https://"]).to_list())


def drop_emails(rows: Sequence[Row]) -> Filtered:
    """Without rows that hold mail addresses."""
    return _without(rows, "drop_emails", _texts(rows).str.contains(ADDRESS).to_list())


Unwanted = Literal["secrets", "refusals", "urls", "emails"]
UNWANTED: Mapping[Unwanted, Callable[[Sequence[Row]], Filtered]] = {
    "secrets": drop_secrets,
    "refusals": drop_refusals,
    "urls": drop_urls,
    "emails": drop_emails,
}
"""What rows may be left out for, by name."""
ALWAYS_UNWANTED: tuple[Unwanted, ...] = ("secrets",)
"""The others may be what is to be learned."""


def _texts(rows: Sequence[Row]) -> pl.Series:
    return pl.Series("text", [row.text for row in rows], dtype=pl.String)


def _without(rows: Sequence[Row], name: str, goes: Sequence[bool], note: str = "") -> Filtered:
    kept = [row for row, gone in zip(rows, goes, strict=True) if not gone]
    return kept, Step(name=name, rows_in=len(rows), rows_out=len(kept), note=note)
