"""Sets of hashed shingles in a temporary file, for comparing more rows than memory should hold."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from agents.data_engineer.tokens import Tokens
from shared_memory.errors import Unavailable

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


class Spool:
    """The sets of hashed shingles of some rows: 32 bits a shingle, sorted within each row."""

    def __init__(self) -> None:
        with _room():
            # Unbuffered, since a buffer that does not fit on the disk would fail again when the file is closed.
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open for as long as this is needed
        self.close = weakref.finalize(self, self._file.close)
        self._lengths: list[NDArray[np.int64]] = []

    def append(self, shingles: Tokens) -> None:
        """Raises Unavailable where the temporary folder is full."""
        sets = distinct((shingles.owners.astype(np.uint64) << _HALF) | (shingles.hashes >> _HALF))
        self._lengths.append(np.bincount((sets >> _HALF).astype(np.int64), minlength=len(shingles)))
        left = (sets & _LOW).astype(np.uint32).view(np.uint8).data
        with _room():
            while left:
                left = left[self._file.write(left) :]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Shingles of each row; as with `read`, nothing can be added once it was asked for."""
        return np.concatenate([np.zeros(0, np.int64), *self._lengths])

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    def read(self, rows: NDArray[np.int64]) -> Tokens:
        """The sets of the rows; mapped anew each time, so that what was read does not stay in memory."""
        starts, ends = self._offsets[rows], self._offsets[rows + 1]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - starts)])
        if not offsets[-1]:
            return Tokens(np.zeros(0, np.uint64), offsets)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], ends - starts)
        stored = np.memmap(self._file, dtype=np.uint32, mode="r")
        return Tokens(stored[places].astype(np.uint64), offsets)


def distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The values in order, each once; where they are partly in order already, several times as fast as `np.unique`."""
    ordered: NDArray[np.uint64] = np.sort(values, kind="stable")
    return ordered[np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]))]


@contextmanager
def _room() -> Iterator[None]:
    """Raises Unavailable where the temporary folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"no temporary file to compare rows with ({error.strerror or error}); "
            "set TMPDIR to a folder with room for 4 bytes a word"
        ) from error
