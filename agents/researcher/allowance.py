"""The meter of a piece of research that belongs to no run: it counts, and holds its own caps."""

from __future__ import annotations

import threading

from shared_memory.errors import BudgetSpent
from shared_memory.records import MICRO_USD


class Allowance:
    """Tokens and dollars that may be spent; several threads book on it. See `agents.llm.Meter`.

    What an earlier attempt has paid for comes back from disk: it counts against the caps, and is not spent again.
    """

    def __init__(self, tokens: int, usd: float) -> None:
        self._caps = (tokens, round(usd * MICRO_USD))
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, int]] = {}
        self._spent: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, tuple[int, int]] = {}
        self.unpriced = False
        """Whether the price of anything is unknown: its tokens are counted, its dollars are not."""

    @property
    def tokens(self) -> int:
        """Spent by this attempt."""
        return self._sum(self._spent)[0]

    @property
    def usd(self) -> float:
        """Spent by this attempt, where prices are known."""
        return self._sum(self._spent)[1] / MICRO_USD

    @property
    def tokens_kept(self) -> int:
        """Of answers that were on disk."""
        return self._sum(self._kept)[0]

    def _sum(self, booked: dict[str, tuple[int, int]]) -> tuple[int, int]:
        """Tokens and micro-dollars; a thread that was left behind by Ctrl-C may still be booking."""
        with self._lock:
            return sum(tokens for tokens, _ in booked.values()), sum(usd_micro for _, usd_micro in booked.values())

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        asked = (tokens, usd_micro or 0)
        with self._lock:
            if key in self._held or key in self._spent:
                return False
            booked = [*self._held.values(), *self._spent.values(), *self._kept.values()]
            for place, (flag, shown) in enumerate((("--llm-tokens", 1), ("--budget-usd", MICRO_USD))):
                used, cap = sum(entry[place] for entry in booked), self._caps[place]
                if asked[place] and used + asked[place] > cap:
                    taken = "used, or held for requests on their way," if self._held else "used,"
                    raise BudgetSpent(
                        f"{flag} is {cap / shown:,.6g}: {used / shown:,.6g} {taken} and the next request may take "
                        f"{asked[place] / shown:,.6g}; raise it to go on"
                    )
            self._held[key] = asked
        return True

    def settle(self, key: str, tokens: int, usd_micro: int | None) -> None:
        with self._lock:
            self.unpriced = self.unpriced or usd_micro is None
            ours = self._held.pop(key, None) is not None or key in self._spent
            (self._spent if ours else self._kept)[key] = (tokens, usd_micro or 0)

    def release(self, key: str) -> None:
        with self._lock:
            self._held.pop(key, None)
