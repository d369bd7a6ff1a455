"""Rows that say which reply is better: pairs with or without a prompt of their own, and ranked lists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agents.data_engineer.formats.cells import Cells, UnusableRow, as_text, decoded
from agents.data_engineer.formats.chat import asked, last_question, messages_of, pair_row, transcript, with_system
from agents.data_engineer.formats.rows import Message, Row

NO_REPLY = (Message("assistant", ""),)
"""The worse reply where there is none: such a row prefers nothing and is left out as empty."""
TEXT_OF_A_REPLY = ("response", "answer", "text", "content", "completion", "output")
RANK_OF_A_REPLY = ("rank", "ranking")
"""The lower, the better."""
SCORE_OF_A_REPLY = ("score", "overall_score", "rating", "reward")
"""The higher, the better."""


def from_preference(cells: Cells) -> Row:
    """Two replies to one prompt, which is a part of its own, or how both conversations begin."""
    prompt = asked(cells)
    chosen, rejected = _replies(cells, "chosen"), _replies(cells, "rejected")
    if chosen and rejected and chosen[0].role != "assistant":
        shared = _shared_beginning(chosen, rejected)
        if not shared:
            raise UnusableRow("prompt_mismatch", "`chosen` and `rejected` are conversations that do not begin alike")
        if prompt and not _is_in(prompt, shared):
            column = cells.column("question")
            raise UnusableRow("prompt_mismatch", f"`{column}` is not in what `chosen` and `rejected` share")
        chosen, rejected = chosen[len(shared) :], rejected[len(shared) :]
        prompt = with_system(shared, cells)
    elif chosen and chosen[0].role == "assistant" and not cells.column("question"):
        raise UnusableRow("prompt_mismatch", "`chosen` is a reply and no column asks; add a column `prompt`")
    return replace(pair_row(cells, prompt, chosen), rejected=rejected or NO_REPLY)


def _replies(cells: Cells, part: str) -> tuple[Message, ...]:
    """A reply, or a whole conversation: as messages, or as a transcript."""
    value = cells.value(part)
    if type(value) is str and (turns := transcript(value)):
        return turns
    return messages_of(cells, part, "assistant")


def _is_in(prompt: Sequence[Message], shared: Sequence[Message]) -> bool:
    """Whether the last thing asked in `prompt`, itself a transcript or not, is asked in what both replies follow."""
    said = {message.content.strip() for message in shared}
    last = last_question(prompt)
    turns = [turn.content for turn in transcript(f"{last}\n\nAssistant:") if turn.role == "user"]
    return last.strip() in said or bool(turns and turns[-1] in said)


def _shared_beginning(first: Sequence[Message], second: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with which both begin, up to the last that is not the assistant's; a reply is left to each."""
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    while shared and first[shared - 1].role == "assistant":
        shared -= 1
    return tuple(first[:shared])


def from_ranked(cells: Cells) -> Row:
    """Of several replies the best is chosen and the worst rejected: the widest gap, and one row each.

    Where all are ranked alike, or there are no two, the row prefers nothing.
    """
    column = cells.column("answers")
    replies = decoded(cells.value("answers"))
    if not isinstance(replies, list):
        raise UnusableRow("no_ranking", f"`{column}` holds no list of replies")
    ranked = _merits(replies, cells)
    prompt = asked(cells)
    if len(ranked) < 2:
        return replace(pair_row(cells, prompt, tuple(reply for _, reply in ranked)), rejected=NO_REPLY)
    best, worst = (choose(ranked, key=lambda entry: entry[0]) for choose in (max, min))
    row = pair_row(cells, prompt, (best[1],))
    return replace(row, rejected=(worst[1],) if worst[0] < best[0] else NO_REPLY)


def _merits(replies: Sequence[Any], cells: Cells) -> list[tuple[float, Message]]:
    """Each reply that has a rank, with a merit that grows as it gets better."""
    column, ranks, scores = cells.column("answers"), cells.column("ranks"), cells.column("scores")
    if ranks or scores:
        values = decoded(cells.record.get(ranks or scores))
        if not isinstance(values, list) or len(values) != len(replies):
            raise UnusableRow("no_ranking", f"`{ranks or scores}` does not hold one number for each of `{column}`")
        merits = [_number(value, ranks or scores) for value in values]
        texts = replies
    else:
        texts, merits = [], []
        for reply in replies:
            text, merit = _told(reply, column)
            texts.append(text)
            merits.append(merit)
    sign = -1.0 if ranks else 1.0
    return [
        (sign * merit, Message("assistant", as_text(text, column)))
        for merit, text in zip(merits, texts, strict=True)
        if not math.isnan(merit)
    ]


def _told(reply: Any, column: str) -> tuple[Any, float]:
    """The text and the merit of a reply that brings its rank or score along."""
    if isinstance(reply, Mapping):
        text = next((reply[key] for key in TEXT_OF_A_REPLY if key in reply), None)
        for keys, sign in ((RANK_OF_A_REPLY, -1.0), (SCORE_OF_A_REPLY, 1.0)):
            if text is not None and (key := next((key for key in keys if key in reply), "")):
                return text, sign * _number(reply[key], key)
    raise UnusableRow("no_ranking", f"`{column}` has a reply without rank or score, and no column ranks them")


def _number(value: Any, column: str) -> float:
    """NaN where there is none."""
    try:
        return math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError) as error:
        raise UnusableRow("no_ranking", f"`{column}` holds `{str(value)[:40]}`, which is no number") from error


def brings_its_ranks(value: Any) -> bool:
    """Whether a cell holds replies that come with rank or score, as UltraFeedback and Nectar have them."""
    keys = {*RANK_OF_A_REPLY, *SCORE_OF_A_REPLY}
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and bool(keys & set(value[0]))
