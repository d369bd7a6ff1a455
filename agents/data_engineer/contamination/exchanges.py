"""The rows of a batch as hashed words, by what is asked in them and what is replied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from agents.data_engineer.formats.rows import Row
from agents.data_engineer.tokens import Tokens, hashed_words
from agents.data_engineer.words import words
from agents.multiple_choice import LETTERS

WINDOW = 64
"""Words of a long text that are looked at as one question."""
STEP = 48
WHOLE = 96
"""Words up to which a message of the user is one question."""
_CHOICE = re.compile(r"^\s*\(?([A-J])[).:]\s+(\S.*)$", re.MULTILINE)
_LETTER = re.compile(r"\b([A-J])\b")

Range = tuple[int, int]
"""Places among the words of a batch: the first, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Something that may be a question, and what may be its answer."""

    row: int
    """Index in the batch."""
    asked: Range
    replied: tuple[Range, ...]
    """A long reply by its two ends; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The words of some rows."""

    parts: list[str]
    """Messages, questions, choices and explanations of all rows, in order; then choices that a reply names."""
    tokens: Tokens
    """The words of each part."""
    rows: Tokens
    """The words of each row's text."""
    asked_in_turns: Tokens
    """All that the user says in a row of several turns, without what is between."""
    rows_of_turns: list[int]
    """Those rows."""
    exchanges: list[Exchange]

    def words_at(self, ranges: Sequence[Range], read_in: Callable[[str], list[str]] = words) -> list[str]:
        """The words at some places as text; or with `words.signs` the operators before them."""
        found: list[str] = []
        for start, end in ranges:
            part = int(np.searchsorted(self.tokens.offsets, start, side="right")) - 1
            first = int(self.tokens.offsets[part])
            read: list[str] = []
            while first + len(read) < end:
                read += read_in(self.parts[part])
                part += 1
            found += read[start - first : end - first]
        return found


def batch_of(rows: Sequence[Row]) -> Batch:
    """The words of `rows`, hashed once."""
    layouts = [_Layout(row) for row in rows]
    firsts = np.cumsum([0, *(len(layout.parts) for layout in layouts)])
    own = [part for layout in layouts for part in layout.parts]
    parts = own + [layout.named for layout in layouts if layout.named]
    tokens = hashed_words(parts)
    bounds = tokens.offsets.tolist()
    turns = [number for number, layout in enumerate(layouts) if len(layout.users) > 1]
    pieces = [np.concatenate([tokens.of(int(firsts[n]) + at) for at in layouts[n].users]) for n in turns]
    exchanges: list[Exchange] = []
    extra = len(own)
    for number, layout in enumerate(layouts):
        named: tuple[Range, ...] = ()
        if layout.named:
            named, extra = ((bounds[extra], bounds[extra + 1]),), extra + 1
        exchanges += layout.exchanges(number, bounds[firsts[number] : firsts[number + 1] + 1], named)
    return Batch(
        parts=parts,
        tokens=tokens,
        rows=Tokens(tokens.hashes[: bounds[len(own)]], tokens.offsets[firsts]),
        asked_in_turns=Tokens(
            np.concatenate([*pieces, np.zeros(0, np.uint64)]), np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        ),
        rows_of_turns=turns,
        exchanges=exchanges,
    )


class _Layout:
    """The parts of one row, and which of them ask and reply."""

    __slots__ = ("named", "parts", "replies", "users")

    def __init__(self, row: Row) -> None:
        messages = row.prompt + row.completion
        self.named = ""
        self.users: list[int] = []
        self.replies: dict[int, list[int]] = {}
        if row.passage and not messages:
            self.parts = [row.passage, *(row.choices or ()), row.explanation]
            return
        if not messages and not row.rejected:
            self.parts = [row.question, *(row.choices or ()), row.explanation]
            self.users = [0]
            right = LETTERS.find(row.answer) if row.answer else -1
            self.replies = {0: [1 + right, len(self.parts) - 1] if right >= 0 else [len(self.parts) - 1]}
            return
        self.parts = [message.says for message in messages + row.rejected]
        self.users = [place for place, message in enumerate(messages) if message.role == "user"]
        self.replies = {
            place: [place + 1]
            for place in self.users
            if place + 1 < len(messages) and messages[place + 1].role == "assistant"
        }
        if self.users and self.users[-1] in self.replies:
            self.named = _named_choice(self.parts[self.users[-1]], self.parts[self.users[-1] + 1])

    def exchanges(self, row: int, bounds: list[int], named: tuple[Range, ...]) -> Iterator[Exchange]:
        """Each message of the user with its reply; a longer one, and a text of no user, by windows."""
        for part, (start, end) in enumerate(pairwise(bounds)):
            if part not in self.users and self.users:
                continue
            replied = [(bounds[place], bounds[place + 1]) for place in self.replies.get(part, ())]
            pieces = [piece for first, final in replied for piece in _both_ends(first, final) if piece[0] < piece[1]]
            if named and part == self.users[-1]:
                pieces += named
            if end - start <= WHOLE and pieces:
                yield Exchange(row, (start, end), tuple(pieces))
                continue
            for at in range(start, max(start + 1, end - WINDOW + STEP), STEP):
                stop = min(end, at + WINDOW)
                after = (stop, min(bounds[-1], stop + WINDOW))
                if at < stop and (pieces or after[0] < after[1]):
                    yield Exchange(row, (at, stop), tuple(pieces) or (after,))


def _both_ends(start: int, end: int) -> tuple[Range, ...]:
    """A reply as it is, or the two ends of a long one: the answer is at one of them."""
    if end - start <= 2 * WINDOW:
        return ((start, end),)
    return ((start, start + WINDOW), (end - WINDOW, end))


def _named_choice(prompt: str, reply: str) -> str:
    """The choice that a reply like `ANSWER: B` names; empty where the prompt has none."""
    if ")" not in prompt and ":" not in prompt and "." not in prompt:
        return ""
    letters = _LETTER.findall(reply[-40:])
    return dict(_CHOICE.findall(prompt)).get(letters[-1], "") if letters else ""
