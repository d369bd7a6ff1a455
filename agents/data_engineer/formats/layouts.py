"""Rows as TRL's trainers take them, a line of JSON each [TRL 1.16, dataset_formats]."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from agents.data_engineer.formats.methods import Method, reference_of
from agents.data_engineer.formats.rows import Message, Row


def as_trained(rows: Sequence[Row], method: Method) -> list[Row]:
    """The rows as the method takes them.

    SFT imitates the chosen reply of a pair and leaves out what is labelled as unwanted. KTO takes pairs apart into a
    wanted and an unwanted reply, under one id.
    """
    if method == "sft":
        return [replace(row, rejected=(), label=None) for row in rows if row.label is not False]
    if method == "kto":
        return [single for row in rows for single in _singles(row)]
    return list(rows)


def _singles(row: Row) -> Iterator[Row]:
    if not row.rejected:
        yield row
        return
    yield replace(row, rejected=(), label=True)
    yield replace(row, completion=row.rejected, rejected=(), label=False)


def as_measured(row: Row, method: Method) -> Row:
    """A rendered row as it measures what the method teaches: for GRPO the answer alone is the completion."""
    if method != "grpo":
        return row
    return replace(row, completion=(Message("assistant", reference_of(row)),))


def line(row: Row, method: Method) -> bytes:
    """One line of a data set.

    sft `prompt`, `completion`, or `text` · dpo and reward `prompt`, `chosen`, `rejected` · kto `prompt`, `completion`,
    `label` · grpo `prompt`, `answer` (what a reply is checked against). Prompts and replies are lists of messages;
    `tools` is a JSON text, which TRL decodes: lists of different schemas have no common column type.
    """
    value: dict[str, Any]
    if method == "sft" and row.passage:
        value = {"text": row.passage}
    else:
        value = {"prompt": _plain(row.prompt)}
        if method in ("dpo", "reward"):
            value |= {"chosen": _plain(row.completion), "rejected": _plain(row.rejected)}
        elif method == "grpo":
            value["answer"] = reference_of(row)
        else:
            value["completion"] = _plain(row.completion)
        if method == "kto":
            value["label"] = row.label
    if row.tools:
        value["tools"] = row.tools
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def _plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.plain() for message in messages]
