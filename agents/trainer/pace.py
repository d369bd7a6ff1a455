"""How fast a running job gets on, and for how long it has said nothing: by its own clock, and by its backend's."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from statistics import median
from typing import Any

from agents.trainer import vital_signs as signs

SILENCE_SECONDS = 1800.0
"""For how long a job may say nothing between two updates; longer where its own steps are longer."""
SILENCE_MEDIANS, SILENCE_LONGEST = 10, 3
"""How many of its own median intervals, and of its longest one, a silence may last."""
QUIET_SECONDS = 3600.0
"""For how long it may say nothing before its first update (downloads, tokenising) and after its last (saving)."""
UNWATCHED_SECONDS = 300.0
"""Between two looks: after more, the watcher or the whole machine was asleep, and the silence may be its own."""
PACE_STEPS, PACE_SECONDS = 10, 60.0
"""Steps, and seconds of them, from which on a pace can be told from warming up."""
OVERRUN_LOGS = 5
"""Updates in a row after which it has to be so."""
MEMORY = 200
"""Updates that are kept."""


class Pace:
    """How fast a job gets on, by its own clock."""

    def __init__(self) -> None:
        self.began = False
        self.interval = 0.0
        """Median seconds between two updates."""
        self._steps: deque[tuple[float, float]] = deque(maxlen=MEMORY)
        """Step and seconds of updates."""
        self._rates: dict[str, deque[float]] = {}
        self._seconds: dict[str, deque[float]] = {}
        self._last: dict[str, tuple[float, float]] = {}
        self._of = 0.0
        self._longest = 0.0
        self._over: dict[str, tuple[int, float]] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        step, seconds = number(event, "step"), number(event, "seconds")
        if step is None or seconds is None:
            return
        self._of = number(event, "steps") or self._of
        if self._steps and (step <= self._steps[-1][0] or seconds < self._steps[-1][1]):
            return  # within an update
        if self._steps:
            self.began = True
            self._longest = max(self._longest, seconds - self._steps[-1][1])
        self._steps.append((step, seconds))
        for unit, value in (("token", number(event, "num_tokens")), ("step", step)):
            if value is not None:
                self._rate(unit, value, seconds)

    def _rate(self, unit: str, value: float, seconds: float) -> None:
        before = self._last.get(unit)
        self._last[unit] = (value, seconds)
        if before is None or seconds <= before[1] or value <= before[0]:
            return
        taken = self._seconds.setdefault(unit, deque(maxlen=MEMORY))
        taken.append(seconds - before[1])
        self._rates.setdefault(unit, deque(maxlen=MEMORY)).append((value - before[0]) / (seconds - before[1]))
        if unit == "step":
            self.interval = median(taken)

    def stalled(self) -> str:
        unit = "token" if "token" in self._rates else "step"
        return signs.stalled(list(self._rates.get(unit, ())), list(self._seconds.get(unit, ())), unit)

    def patience(self) -> float:
        """Seconds of silence that are nothing unusual for this job."""
        if not self.began or (self._of and self._steps[-1][0] >= self._of):
            return QUIET_SECONDS
        return max(SILENCE_SECONDS, SILENCE_MEDIANS * self.interval, SILENCE_LONGEST * self._longest)

    def need(self) -> float | None:
        """Seconds that the steps still to come take, at the pace of the later half of those so far; None before there
        is one."""
        if not self._of or len(self._steps) < PACE_STEPS:
            return None
        (first, began), (last, now) = self._steps[len(self._steps) // 2], self._steps[-1]
        if now - self._steps[0][1] < PACE_SECONDS or last <= first:
            return None
        return (self._of - last) * (now - began) / (last - first)

    def told(self) -> str:
        step = self._steps[-1][0]
        return f"its {self._of - step:.0f} steps to come need {hours(self.need() or 0.0)} at its pace"

    def persists(self, rule: str, over: bool) -> bool:
        """Whether it has been so after OVERRUN_LOGS updates in a row; looks between two updates count once."""
        count, step = self._over.get(rule, (0, -1.0))
        latest = self._steps[-1][0]
        if not over:
            self._over[rule] = (0, latest)
        elif latest > step:
            self._over[rule] = (count + 1, latest)
        return self._over[rule][0] >= OVERRUN_LOGS


class Silence:
    """For how long a job has said nothing while somebody listened, in seconds of its running time."""

    def __init__(self) -> None:
        self.heard = False
        """Whether it has said something since the last look."""
        self._since: float | None = None
        self._looked = 0.0

    def look(self, running: float) -> float:
        asleep = running - self._looked > UNWATCHED_SECONDS
        if self._since is None or self.heard or asleep or running < self._since:
            self._since = running
        self.heard, self._looked = False, running
        return running - self._since


def number(event: Mapping[str, Any], name: str) -> float | None:
    """A number of an event, for a script may print anything."""
    value = event.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with suppress(OverflowError):
        return float(value)
    return None


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(0.0, seconds) / 60:.0f} min"
