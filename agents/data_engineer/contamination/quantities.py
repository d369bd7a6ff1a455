"""The numbers of a text by their significant digits, so that `6,600 metres` and `6.6 km` say the same."""

from __future__ import annotations

from collections.abc import Sequence

from agents.data_engineer.words import is_number

_UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_FRACTIONS = {"half": "5", "quarter": "25", "quarters": "75", "tenth": "1", "twice": "2", "fourfold": "4"}
IN_WORDS = frozenset((*_UNITS, *_TENS, *_SCALES, *_FRACTIONS)) - {"one"}
"""Words that are numbers; `one` alone is mostly a pronoun."""


def digits(number: str) -> str:
    """The significant digits of a number in figures: `0.80`, `80` and `8` are all `8`."""
    return number.replace(".", "").strip("0") or "0"


def quantities(words: Sequence[str]) -> set[str]:
    """The significant digits of all numbers among `words`, in figures and in words (`two hundred and fifty-six`)."""
    found: set[str] = set()
    value: int | None = None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in _UNITS and (word != "one" or value is not None or following in _SCALES):
            value = _UNITS[word] if value is None or value % 10 else value + _UNITS[word]
        elif word in _TENS:
            value = _TENS[word] if value is None or value % 100 else value + _TENS[word]
        elif word in _SCALES:
            value = (value or 1) * _SCALES[word]
        elif not (word == "and" and value and value % 100 == 0):
            if value is not None:
                found.add(digits(str(value)))
                value = None
            if is_number(word):
                found.add(digits(word))
            elif word in _FRACTIONS:
                found.add(_FRACTIONS[word])
    if value is not None:
        found.add(digits(str(value)))
    return found
