"""Books what a role's language model takes, in the run's budget."""

from __future__ import annotations

from collections.abc import Callable

from shared_memory.budget import Budget
from shared_memory.errors import Conflict


class BudgetMeter:
    """Books what a role's language model takes in the run's budget."""

    def __init__(self, budget: Budget, role: str, on_unpriced: Callable[[], None], kept_usd_micro: int = 0) -> None:
        """kept_usd_micro: what is kept back for something else."""
        self._budget = budget
        self._role = role
        self._on_unpriced = on_unpriced
        self._kept_usd_micro = kept_usd_micro

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        """A model of unknown price asks for the least there is once dollars are spent: none are left at the cap."""
        if usd_micro is None:
            spend = self._budget.spent()
            usd_micro = int(spend.usd_micro + spend.held_usd_micro > 0)
        return self._budget.reserve(
            key, usd_micro, role=self._role, jobs=0, tokens=tokens, kept_usd_micro=self._kept_usd_micro, hurry=False
        )

    def settle(self, key: str, tokens: int, usd_micro: int | None) -> None:
        """An unknown price is booked as no dollars, and said: the cap on tokens is what holds then."""
        if usd_micro is None:
            self._on_unpriced()
        try:
            self._budget.settle(key, usd_micro or 0, tokens, hurry=False)
        except Conflict:  # the machine lost its power before the booking was on its disk, and the answer was
            self.reserve(key, tokens, usd_micro)
            self._budget.settle(key, usd_micro or 0, tokens, hurry=False)

    def release(self, key: str) -> None:
        self._budget.release(key)
