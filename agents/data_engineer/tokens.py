"""Words of many texts at once as 64-bit hashes, for what has to look at every row of a large data set.

The words are those of `words.words`; what is compared here is their hashes, so that a million rows are a few arrays.
Hashes hold within one process: they are never written down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agents.data_engineer.words import OPERATORS, WORD, plain_operators

SEED = 42
_ASCII_WORD = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|[a-z]+"
"""What `WORD` finds in lower-case ASCII, in half of the time."""
_OPERATOR = rf"[{re.escape(OPERATORS)}−–×⋅·÷＋－＊／＜＞＝]+"
_OPERATION = rf"{_OPERATOR}[ \t]*[(\[]*[-+−]?(?:[0-9]|[A-Za-z]\b)"
"""An operator with the beginning of what it is applied to."""
_OPERATED = rf"(?:[0-9)\]]|\b[A-Za-z])[ \t)\]]*{_OPERATION}|(?:^|[\s(:,])[-−–][0-9]"
"""The same after an operand, or a negative number."""
_PLACES = np.array(
    [1, *(pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(1, 16))],
    dtype=np.uint64,
)
"""What the hash of a word is multiplied by at each place of a gram (powers of an odd number): order counts."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The hashed tokens, or grams, of some texts, one text after another."""

    hashes: NDArray[np.uint64]
    """All tokens, flat."""
    offsets: NDArray[np.int64]
    """Where each text begins, and where the last one ends: one more than there are texts."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, text: int) -> NDArray[np.uint64]:
        """The tokens of one text, in order."""
        return self.hashes[self.offsets[text] : self.offsets[text + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> NDArray[np.int64]:
        """For each token, the number of its text."""
        return np.repeat(np.arange(len(self)), self.lengths)


def hashed_words(texts: Sequence[str] | pl.Series) -> Tokens:
    """The words of each text, as `words.words` finds them."""
    words = split_words(texts)
    return Tokens(
        hashes=words.explode(empty_as_null=False).hash(SEED).to_numpy(),
        offsets=_offsets(words.list.len().to_numpy()),
    )


def hashed_numbers(texts: Sequence[str] | pl.Series) -> NDArray[np.uint64]:
    """For each text one hash of the numbers that it holds, in order; the same for all texts that hold none."""
    column = pl.Series(texts, dtype=pl.String)
    hashes = np.full(len(column), pl.Series([""]).hash(SEED)[0], dtype=np.uint64)
    # Beyond ASCII there are numbers that only their normal form shows.
    some = (column.str.contains("[0-9]") | ~_is_ascii(column)).arg_true()
    found = split_words(column[some]).list.eval(pl.element().filter(pl.element().str.contains(r"^\d")))
    hashes[some.to_numpy()] = found.list.join(" ").hash(SEED).to_numpy()
    return hashes


def hashed_operators(texts: Sequence[str] | pl.Series) -> NDArray[np.uint64]:
    """For each text one hash of the operators at numbers and single letters, in order; 0 for all without any."""
    column = pl.Series(texts, dtype=pl.String)
    hashes = np.zeros(len(column), dtype=np.uint64)
    some = column.str.contains(_OPERATED).arg_true()
    found = column[some].str.extract_all(_OPERATION).list.join(" ")
    plain = pl.Series([plain_operators(text) for text in found.str.normalize("NFKC")], dtype=pl.String)
    hashes[some.to_numpy()] = plain.str.replace_all(r"[ \t]", "").str.to_lowercase().hash(SEED).to_numpy()
    return hashes


def hashed_texts(texts: Sequence[str]) -> NDArray[np.uint64]:
    """One hash of each text as it stands."""
    return pl.Series([text.encode("utf-8", "surrogatepass") for text in texts], dtype=pl.Binary).hash(SEED).to_numpy()


def split_words(texts: Sequence[str] | pl.Series) -> pl.Series:
    """The words of each text as a list of strings."""
    column = pl.Series("text", texts, dtype=pl.String)
    plain = _is_ascii(column)
    if plain.all():
        return _found(column, _ASCII_WORD)
    found = [_found(column.filter(plain), _ASCII_WORD), _found(column.filter(~plain).str.normalize("NFKC"), WORD)]
    return pl.concat(found).gather(pl.concat([plain.arg_true(), (~plain).arg_true()]).arg_sort())


def _is_ascii(column: pl.Series) -> pl.Series:
    return column.str.len_bytes() == column.str.len_chars()


def _found(column: pl.Series, token: str) -> pl.Series:
    lower = column.str.to_lowercase()
    words = lower.str.extract_all(token)
    if lower.str.contains(r",\d").any():  # Only numbers hold a comma.
        words = words.list.eval(pl.element().str.replace_all(",", "", literal=True))
    return words


def gram_hashes(tokens: Tokens, n: int) -> Tokens:
    """Every run of `n` tokens of each text; a shorter text is one run, an empty one none. `n` is 16 at most."""
    lengths = tokens.lengths
    runs = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1))
    hashes = tokens.hashes.copy()
    for place in range(1, min(n, len(hashes))):
        hashes[:-place] += tokens.hashes[place:] * _PLACES[place]
    for length in range(1, n):  # The sums of short texts reach into the next text: made anew.
        starts = tokens.offsets[:-1][lengths == length]
        hashes[starts] = sum(
            (tokens.hashes[starts + place] * _PLACES[place] for place in range(length)), np.zeros(1, np.uint64)
        )
    ends = np.repeat(tokens.offsets[:-1] + runs, lengths)
    kept = hashes[np.arange(len(hashes)) < ends]
    kept ^= kept >> np.uint64(32)
    return Tokens(kept, _offsets(runs))


def _offsets(lengths: NDArray[np.generic]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
