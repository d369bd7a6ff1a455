"""Text as tokens that can be compared: case, punctuation, spacing and Unicode form do not count, numbers do."""

from __future__ import annotations

import re
import unicodedata

WORD = (
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?"  # 1,000 and 1,000.5
    r"|\d+(?:\.\d+)?"  # 12 and 12.5; the number of `5kg` stands alone
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # scripts without spaces: one token a character
    r"|[^\W\d_]+"
)
"""A word or a number, as an expression that Python and Rust read alike."""
_TOKEN = re.compile(WORD)
OPERATORS = "-+*/^%=<>!&|~±≤≥≠"
"""What may stand between two numbers or single letters, once `plain_operators` has been applied."""
_SPACELESS = 0x3040
"""From here on scripts have no spaces, and a character is a word like others."""
NEGATIVE = "~-"
"""The sign of a negative number, which no operand precedes."""
_SAME = {ord(mark): plain for mark, plain in zip("−–×⋅·÷", "--***/", strict=True)}
_BETWEEN = re.compile(rf"[ \t]*[)\]]*[ \t]*([{re.escape(OPERATORS)}]+)[ \t]*[(\[]*[ \t]*([-+]?)[$€£]?")
_NEGATIVE = re.compile(r"[\s(\[:,;$€£]-[$€£]?$")


def words(text: str) -> list[str]:
    """Lower-case words and numbers of `text`, in order; `1,000` becomes `1000`."""
    tokens: list[str] = _TOKEN.findall(normal(text))
    return [token.replace(",", "") for token in tokens]


def normal(text: str) -> str:
    """The form in which words are looked for."""
    return unicodedata.normalize("NFKC", text).lower()


def plain_operators(text: str) -> str:
    """One sign for each operator: `−` and `–` are `-`, `×` and `·` are `*`, `÷` is `/`. An em dash is none."""
    return text.translate(_SAME)


def signs(text: str) -> list[str]:
    """For each of the words of `text` the operator before it, where that stands between numbers or single letters.

    In `-40 + a` they are NEGATIVE and `+`: the sign of a negative number is told from a minus. Most words have none.
    """
    text = plain_operators(normal(text))
    found: list[str] = []
    end, operand = 0, False
    for match in _TOKEN.finditer(text):
        sign, before = "", operand
        operand = is_operand(match[0])
        if operand and match.start() > end:
            gap = text[end : match.start()]
            if (before or gap.lstrip()[:1] in (")", "]")) and (between := _BETWEEN.fullmatch(gap)):
                sign = between[1] + between[2]
            elif not before and _NEGATIVE.search(gap if found else f" {gap}"):
                sign = NEGATIVE
        found.append(sign)
        end = match.end()
    return found


def is_operand(token: str) -> bool:
    """Whether an operator may stand before a token: a number, or a letter by itself."""
    return is_number(token) or (len(token) == 1 and ord(token) < _SPACELESS)


def is_number(token: str) -> bool:
    return token[0].isdigit()


def numbers(text: str) -> list[str]:
    return [token for token in words(text) if is_number(token)]


def grams(tokens: list[str], n: int) -> list[str]:
    """Runs of `n` tokens, joined by blanks; a shorter text is one run, an empty one none."""
    if not tokens:
        return []
    return [" ".join(tokens[start : start + n]) for start in range(max(1, len(tokens) - n + 1))]
