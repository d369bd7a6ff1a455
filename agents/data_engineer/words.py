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


def words(text: str) -> list[str]:
    """Lower-case words and numbers of `text`, in order; `1,000` becomes `1000`."""
    tokens: list[str] = _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())
    return [token.replace(",", "") for token in tokens]


def is_number(token: str) -> bool:
    return token[0].isdigit()


def numbers(text: str) -> list[str]:
    return [token for token in words(text) if is_number(token)]


def grams(tokens: list[str], n: int) -> list[str]:
    """Runs of `n` tokens, joined by blanks; a shorter text is one run, an empty one none."""
    if not tokens:
        return []
    return [" ".join(tokens[start : start + n]) for start in range(max(1, len(tokens) - n + 1))]
