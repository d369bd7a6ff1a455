"""Finds a loop that goes round in circles: the same calls with the same results, again and again."""

from __future__ import annotations

LONGEST_CYCLE = 5
"""Calls."""
WARNING = (
    "[The last {calls} gave the same {times} times over, and will again. Do something else: read another source, "
    "change the arguments, or go on with what you have.]"
)
REFUSAL = "not carried out: the same {calls} gave the same {times} times over; do something else, or hand in"

_ROUNDS_KEPT = 6


class Repetition:
    """The calls of a loop, each with what it gave back.

    A call three times, or two calls in turn three times, or a cycle of three to five twice, is a circle. It is one as
    long as the last calls are part of it: another call, or another result, and it is forgotten.
    """

    def __init__(self) -> None:
        self._past: list[tuple[str, str]] = []
        """Call and result, by their digests."""

    def add(self, call: str, result: str) -> None:
        """Note a call and its result."""
        self._past = [*self._past, (call, result)][-LONGEST_CYCLE * _ROUNDS_KEPT :]

    def copy(self) -> Repetition:
        """The same past, for a look ahead."""
        other = Repetition()
        other._past = self._past
        return other

    def warning(self) -> str:
        """What to tell a model whose last call closed a circle; empty where it did not."""
        length, times = self._circle()
        return WARNING.format(calls=_calls(length), times=times) if times else ""

    def refusal(self, call: str) -> tuple[str, str] | None:
        """Why a call is not carried out, and the result that it would have; None where it may be.

        One round after the warning may be carried out, and no more.
        """
        length, times = self._circle()
        if times <= _rounds(length) or self._past[-length][0] != call:
            return None
        return REFUSAL.format(calls=_calls(length), times=times), self._past[-length][1]

    def _circle(self) -> tuple[int, int]:
        """Length of the circle that the past ends with, and how many times it went round; 0 times for none."""
        for length in range(1, LONGEST_CYCLE + 1):
            cycle, times = self._past[-length:], 1
            while len(cycle) == length and self._past[-length * (times + 1) : -length * times] == cycle:
                times += 1
            if times >= _rounds(length):
                return length, times
        return 1, 0


def _rounds(length: int) -> int:
    """Times round that make a circle of so many calls."""
    return 3 if length <= 2 else 2


def _calls(length: int) -> str:
    return "call" if length == 1 else f"{length} calls"
