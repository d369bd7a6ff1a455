"""Endless repetition, which models fall into, cut short before anybody has to read it."""

from __future__ import annotations

import numpy as np

MOST = 5
"""Times that something may be said in a row [`limit_repetitions` of PostTrainBench, for lines, blocks and phrases]."""
LONGEST_UNIT = 2000
"""Characters of what is repeated: a block of some thirty lines."""
SHORTEST_UNIT = 3


def without_repetition(text: str, most: int = MOST) -> str:
    """The text, with whatever it says more than `most` times in a row said `most` times.

    The smallest repeated unit is found first, so that a loop of loops becomes a loop. A last, broken-off repetition
    goes with the others.
    """
    unit = SHORTEST_UNIT
    while unit <= min(LONGEST_UNIT, len(text) // (most + 1)):
        found = _longest_run(text, unit, most)
        if found is None:
            unit += 1
            continue
        start, end = found
        text = text[: start + most * unit] + text[end:]
    return text


def _longest_run(text: str, unit: int, most: int) -> tuple[int, int] | None:
    """The longest place where a text says the same `unit` characters more than `most` times in a row."""
    signs = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    same = np.concatenate(([False], signs[unit:] == signs[:-unit], [False]))
    edges = np.flatnonzero(same[1:] != same[:-1])
    starts, ends = edges[::2], edges[1::2]
    if not len(starts) or (ends - starts).max() < most * unit:
        return None
    at = int((ends - starts).argmax())
    return int(starts[at]), int(ends[at]) + unit
