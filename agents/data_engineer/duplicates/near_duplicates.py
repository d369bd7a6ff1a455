"""Near-duplicates among any number of rows: MinHash bands propose pairs, the exact Jaccard similarity decides.

Rows come as sets of hashed shingles, batch by batch, and wait in a temporary file (4 bytes a shingle), so that memory
holds a few hundred bytes a row whatever its length:

    near = NearDuplicates(threshold=0.7)
    for batch in batches:
        near.add(shingles(batch), identity_digests(batch))  # both are in dedup.py
    found = near.duplicates()  # which rows go, beyond exact duplicates, and what each of them repeats
    near.pairs()  # every pair that is alike, say to see which of them lie across splits

Rows count from 0 in the order in which they were added. The file is deleted when the result is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from agents.data_engineer.duplicates.spool import Spool, distinct
from agents.data_engineer.tokens import Tokens

PERMUTATIONS = 128
BAND = 4
"""Permutations in a band: 32 bands of 4 meet a pair of similarity s at least once with probability 1 - (1 - s⁴)³²."""
MEETINGS = 2
"""Bands that a pair has to share to be compared: 99.8 % of the pairs at 0.7 share two, 3 % of those at 0.3."""
SURE = 0.7
"""Threshold below which one shared band is enough, since pairs there seldom share two."""
CROWD = 32
"""Rows of one band that are compared each with each. In a larger group a row is compared with the group's first, and
with those that share what few rows have."""
RARE_BAND = 2
"""Permutations in a band where only rare shingles are signed: what two rows of one template share beyond the template
may be a sixth of the rest, and 64 bands of 2 meet a pair of 0.2 with probability 0.93, one of 0.02 with 0.03."""
MANY = 16
"""Rows from which what more than half of them share counts as boilerplate: a fixed instruction, a form to fill in."""
SEED = 42
_BLOCK = 1024
"""Rows, or pairs, that are worked on at once: so few stay in the processor's cache, 4,096 take twice as long."""
_WEIGHT = 1 << 20
"""Shingles that are worked on at once, a longer row aside."""
_HELD = 1 << 23
"""Meetings of rows that are held (64 MB) before those of one pair are counted."""
_COUNTERS = 24
"""Binary logarithm of the counters (64 MB at most) of shingles, by the first bits of their hashes."""
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64)
"""Odd multipliers that make one number of the permutations in a band."""

Rows = NDArray[np.int64]
"""Numbers of rows."""
_Shingles = NDArray[np.bool_]
"""Some shingles: those with these first bits."""


@dataclass(frozen=True, slots=True)
class Shingles(Tokens):
    """The shingles of some rows, and what has to be the same in two of them."""

    tags: NDArray[np.uint64]
    """One a row: rows with different tags are never alike, however many shingles they share. What fills most rows is
    told from the rest without regard to tags, so that a form is a form whatever is filled in."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows whose similarity is the threshold or more, by second and then by first row."""

    first: Rows
    """The earlier row of each pair."""
    second: Rows
    similarity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for start in range(0, len(self), _BLOCK):
            block = slice(start, start + _BLOCK)
            yield from zip(self.first[block].tolist(), self.second[block].tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows that repeat an earlier one, in order."""

    rows: Rows
    originals: Rows
    """For each of them the earliest kept row that it is like."""
    similarity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


class NearDuplicates:
    """Finds the rows that are alike among all that are added."""

    def __init__(self, threshold: float = SURE) -> None:
        """`threshold` is the Jaccard similarity of two sets of shingles from which they count as alike."""
        self._threshold = threshold
        self._sets = Spool()
        self._tagged: list[NDArray[np.uint64]] = []
        self._identities: list[NDArray[np.uint64]] = []

    def add(self, shingles: Tokens | Shingles, identities: NDArray[np.uint64] | None = None) -> None:
        """Take the next rows, each as its shingles; what occurs twice in a row counts once.

        With `identities`, one digest a row (for every batch or for none), rows whose digest occurred before are exact
        duplicates: they are passed over here. Raises Unavailable where the temporary folder is full.
        """
        self._sets.append(shingles)
        tags = shingles.tags if isinstance(shingles, Shingles) else np.zeros(len(shingles), np.uint64)
        self._tagged.append(tags)
        if identities is not None:
            self._identities.append(identities)

    def duplicates(self) -> Duplicates:
        """The rows that go when the first of each is kept: those alike to an earlier row that stays."""
        return self._duplicates

    def pairs(self) -> Pairs:
        """All pairs that are alike and were met; nothing can be added afterwards."""
        return self._pairs

    @cached_property
    def _duplicates(self) -> Duplicates:
        found = self._pairs
        goes: dict[int, int] = {}
        for place, (first, second) in enumerate(found):
            if first not in goes and second not in goes:
                goes[second] = place
        places = np.fromiter(goes.values(), dtype=np.int64, count=len(goes))
        return Duplicates(found.second[places], found.first[places], found.similarity[places])

    @cached_property
    def _pairs(self) -> Pairs:
        rows = self._compared()
        spread = self._spread(rows)
        boilerplate = _above(spread, len(rows) / 2) if len(rows) >= MANY else None
        meetings = MEETINGS if self._threshold >= SURE else 1
        candidates, crowded = _met(self._keys(rows, boilerplate, BAND), rows, meetings)
        if len(crowded):
            # A template that fills hundreds of rows gives them one another's bands, and there are too many pairs of
            # them. But two that are alike by more than their template also share shingles that few other rows have.
            common = _above(spread, CROWD + 2 * spread.mean())
            rare, _ = _met(self._keys(crowded, common, RARE_BAND), crowded, 1)
            candidates = distinct(np.concatenate([candidates, rare]))
        found = self._alike(candidates, boilerplate)
        self._sets.close()
        return found

    @cached_property
    def _tags(self) -> NDArray[np.uint64]:
        return np.concatenate([np.zeros(0, np.uint64), *self._tagged])

    def _compared(self) -> Rows:
        """The rows that have shingles and are no exact duplicates."""
        rows = np.flatnonzero(self._sets.lengths)
        if self._identities:
            rows = rows[firsts(np.concatenate(self._identities))[rows] == rows]
        return rows

    def _spread(self, rows: Rows) -> NDArray[np.uint32]:
        """In how many rows each shingle occurs, or a little more: those whose hashes begin alike share a counter."""
        shingles = int(self._sets.lengths.sum())
        counts = np.zeros(1 << min(_COUNTERS, (16 * shingles).bit_length()), dtype=np.uint32)
        for block in _blocks(self._sets.lengths[rows]):
            np.add.at(counts, _places(self._sets.read(rows[block]), counts), np.uint32(1))
        return counts

    def _read(self, rows: Rows, unwanted: _Shingles | None) -> Tokens:
        """The shingles of the rows without those that are unwanted."""
        sets = self._sets.read(rows)
        return sets if unwanted is None else _where(sets, ~unwanted[_places(sets, unwanted)])

    def _keys(self, rows: Rows, unwanted: _Shingles | None, size: int) -> NDArray[np.uint32]:
        """For each row a number for each band of `size` permutations, 0 where the row has no shingles."""
        keys = np.zeros((len(rows), PERMUTATIONS // size), dtype=np.uint32)
        for block in _blocks(self._sets.lengths[rows]):
            found = _band_keys(self._read(rows[block], unwanted), size)
            keys[block] = np.where(found, found ^ (self._tags[rows[block], None] >> _HALF).astype(np.uint32), 0)
        return keys

    def _alike(self, candidates: NDArray[np.uint64], boilerplate: _Shingles | None) -> Pairs:
        """The candidates whose exact similarity is the threshold or more."""
        first, second = _parted(candidates)
        same = self._tags[first] == self._tags[second]
        first, second = first[same], second[same]
        similarity = np.zeros(len(first))
        lengths = self._sets.lengths
        for block in _blocks(lengths[first] + lengths[second]):
            rows, places = np.unique(np.stack([first[block], second[block]], axis=1), return_inverse=True)
            similarity[block] = _jaccard(self._read(rows, boilerplate), places.reshape(-1, 2))
        kept = np.flatnonzero(similarity >= self._threshold)
        kept = kept[np.lexsort((first[kept], second[kept]))]
        return Pairs(first[kept], second[kept], similarity[kept])


def firsts(identities: NDArray[np.uint64]) -> Rows:
    """For each row the first that has the same digest: itself, unless it is an exact duplicate."""
    _, first, place = np.unique(identities, return_index=True, return_inverse=True)
    return first[place]


def _blocks(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Pieces of what has these lengths that are small enough to work on at once."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        fits = int(np.searchsorted(ends, ends[start] - lengths[start] + _WEIGHT, side="right"))
        end = max(start + 1, min(start + _BLOCK, fits))
        yield slice(start, end)
        start = end


def _places(sets: Tokens, counters: NDArray[np.generic]) -> NDArray[np.intp]:
    """The counter of each shingle; there are 2ⁿ of them."""
    bits = len(counters).bit_length() - 1
    return (sets.hashes >> np.uint64(32 - bits)).astype(np.intp)


def _above(spread: NDArray[np.uint32], rows: float) -> _Shingles | None:
    """The shingles that more than so many rows have; None where there are none."""
    above = spread > rows
    return above if above.any() else None


def _where(sets: Tokens, wanted: NDArray[np.bool_]) -> Tokens:
    """The sets without their unwanted shingles."""
    counted = np.concatenate([np.zeros(1, np.int64), np.cumsum(wanted)])
    return Tokens(sets.hashes[wanted], counted[sets.offsets])


def _band_keys(sets: Tokens, size: int) -> NDArray[np.uint32]:
    """For each set a number for each band of `size` permutations; 0 for an empty set."""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        sets.hashes, sets.offsets.astype(np.uint64), PERMUTATIONS, SEED
    )
    signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(sets), PERMUTATIONS // size, size)
    keys: NDArray[np.uint32] = ((signatures @ _MIX[:size]) >> _HALF).astype(np.uint32)
    keys[sets.lengths == 0] = 0
    return keys


def _met(keys: NDArray[np.uint32], rows: Rows, meetings: int) -> tuple[NDArray[np.uint64], Rows]:
    """Pairs of rows with `meetings` (1 or 2) equal keys or more, see `_paired`, and the rows in crowds."""
    once, twice = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    held: list[NDArray[np.uint64]] = []
    crowded = np.zeros(len(rows), dtype=bool)
    for band in range(keys.shape[1]):
        pairs, crowd = _groups(keys[:, band])
        crowded[crowd] = True
        held.append(pairs)
        if sum(map(len, held)) > _HELD or band == keys.shape[1] - 1:
            met = np.sort(np.concatenate([once, *held]), kind="stable")
            twice = distinct(np.concatenate([twice, met[1:][met[1:] == met[:-1]]]))
            once = distinct(met)
            held.clear()
    first, second = _parted(once if meetings == 1 else twice)
    return _paired(rows[first], rows[second]), rows[crowded]


def _paired(first: Rows, second: Rows) -> NDArray[np.uint64]:
    """Each pair of numbers below 2³² as one number."""
    return (first.astype(np.uint64) << _HALF) | second.astype(np.uint64)


def _parted(pairs: NDArray[np.uint64]) -> tuple[Rows, Rows]:
    """The numbers of which `_paired` made each pair."""
    return (pairs >> _HALF).astype(np.int64), (pairs & _LOW).astype(np.int64)


def _groups(keys: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], Rows]:
    """Pairs of places with equal keys, the earlier one first, and the places that are in crowds.

    A crowd of more than `CROWD` gives the pairs with its first alone.
    """
    packed = np.sort((keys.astype(np.uint64) << _HALF) | np.arange(len(keys), dtype=np.uint64))
    values, places = _parted(packed[np.searchsorted(packed, np.uint64(1) << _HALF) :])
    starts = np.flatnonzero(np.diff(values, prepend=~values[:1]))
    sizes = np.diff(starts, append=len(values))
    group, size = np.repeat(np.arange(len(sizes)), sizes), np.repeat(sizes, sizes)
    crowd = size > CROWD
    led = crowd.copy()
    led[starts] = False
    pairs = [_paired(np.repeat(places[starts], sizes)[led], places[led])]
    small = (size > 1) & ~crowd
    group, members = group[small], places[small]
    for apart in range(1, CROWD):
        same = np.flatnonzero(group[apart:] == group[:-apart])
        if not len(same):
            break
        pairs.append(_paired(members[same], members[same + apart]))
    return np.concatenate(pairs), places[crowd]


def _jaccard(sets: Tokens, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The similarity of each pair of sets; 0 for two empty ones."""
    lengths = sets.lengths[pairs]
    flat = lengths.ravel()
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(flat)])
    places = np.arange(offsets[-1]) + np.repeat(sets.offsets[:-1][pairs.ravel()] - offsets[:-1], flat)
    owners = np.repeat(np.arange(len(pairs), dtype=np.uint64), lengths.sum(axis=1))
    keys = (owners << _HALF) | sets.hashes[places]
    keys.sort(kind="stable")  # Merges two sorted runs a pair.
    shared = np.bincount(owners[1:][keys[1:] == keys[:-1]].astype(np.int64), minlength=len(pairs))
    union = lengths.sum(axis=1) - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 0.0)
