"""Where it is booked what a language model takes."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Where what a request takes is booked, under the request's key."""

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        """Hold the worst case, None where the price is unknown; False where the key is booked, which stays as it is.

        Raises BudgetSpent, and holds nothing.
        """

    def settle(self, key: str, tokens: int, usd_micro: int | None) -> None:
        """Replace the hold by what it took; None where the price is unknown. May be called again."""

    def release(self, key: str) -> None:
        """Drop the hold of a request that was turned down."""


class Tally:
    """The meter of a question that belongs to no run: it counts, and knows no cap."""

    def __init__(self) -> None:
        self.tokens = 0
        self.usd_micro: int | None = 0
        """None as soon as one price was unknown."""

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        """Nothing is held."""
        return True

    def settle(self, key: str, tokens: int, usd_micro: int | None) -> None:
        self.tokens += tokens
        self.usd_micro = None if usd_micro is None or self.usd_micro is None else self.usd_micro + usd_micro

    def release(self, key: str) -> None:
        """Nothing was held."""
