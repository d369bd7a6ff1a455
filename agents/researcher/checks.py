"""What code can tell of a finding's words: whether its quotation, its numbers and its names are in a text."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from agents.researcher.papers.quotations import normalise, quotes

LEAST_WORDS = 5
"""Of a quotation that is no whole line: fewer are found in any text. A number is a word."""
LEAST_OF_A_LINE = 2
"""Of a whole line, such as a table's row."""
MOST_CHARACTERS = 1000
"""Of a quotation: more is no quotation but a copy."""

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W_]+")
_NUMBER = re.compile(r"(?<![\w.,])[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?(?!\d|[.,]\d)", re.IGNORECASE)
_LEFT_OUT = re.compile(r"\.{3}|…")


def fault_of(quotation: str, text: str) -> str:
    """Why a quotation does not count as one of `text`; empty where it does."""
    words = len(_WORD.findall(quotation))
    if len(quotation) > MOST_CHARACTERS:
        return f"the quotation has {len(quotation)} characters; give the sentence or table row that says it"
    if words < LEAST_WORDS and (words < LEAST_OF_A_LINE or not _is_line(quotation, text)):
        return (
            f"the quotation has {words} words; give a passage of at least {LEAST_WORDS} as it stands there, or a whole "
            "row of a table"
        )
    if _LEFT_OUT.search(quotation) and _text(quotation) not in _text(text):
        return "the quotation leaves something out; give one passage as it stands there"
    if not quotes(_text(text), quotation):
        return "the quotation is not in the source, word for word"
    return ""


def numbers_in(text: str) -> list[float]:
    """The numbers that a text writes in digits, in its order: `85.3`, `1,024`, `1e-5`, `−3.1`."""
    return [float(match[0].replace(",", "")) for match in _NUMBER.finditer(_text(text))]


def says_number(text: str, number: float) -> bool:
    """Whether a text has this number, as itself or with a sign that only says which way a change went."""
    return any(abs(abs(found) - abs(number)) <= 1e-9 * max(1.0, abs(number)) for found in numbers_in(text))


def names(text: str, name: str) -> bool:
    """Whether a text speaks of something of that name: `gpqa_main` of GPQA, not `claimed` of AIME."""
    first = next((word for word in re.split(r"[\W_]+", name) if len(word) > 3), "")
    return any(_named(each).search(_compatible(text)) for each in (name, first) if squeezed(each))


@lru_cache(maxsize=256)
def _named(name: str) -> re.Pattern[str]:
    """A name as a word of its own, with anything but letters and digits between its parts; a number may follow it."""
    parts = r"[\W_]*".join(re.findall(r"\d+|[^\W\d_]+", _compatible(name)))
    return re.compile(rf"(?<![^\W_]){parts}(?![^\W\d_])", re.IGNORECASE)


@lru_cache(maxsize=256)
def squeezed(text: str) -> str:
    """Letters and digits alone, in lower case."""
    return "".join(re.findall(r"[^\W_]", _compatible(text).casefold()))


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _is_line(quotation: str, text: str) -> bool:
    wanted = _text(quotation)
    return any(_text(line) == wanted for line in text.splitlines() if len(line) < MOST_CHARACTERS)


@lru_cache(maxsize=1024)
def _text(text: str) -> str:
    """Normalised, which is what comparing takes: a sentence is checked against many texts, and a text by many."""
    return normalise(text)
