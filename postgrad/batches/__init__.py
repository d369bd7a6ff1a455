"""Many goals without a person at the terminal: a few at a time, each by itself, resumable, within caps of the whole."""

from __future__ import annotations

from collections.abc import Callable

from postgrad.batches.goals import Goals
from postgrad.batches.work import Batch, Result
from postgrad.decide import Decide
from shared_memory.settings import Settings, load_settings

__all__ = ["Batch", "Goals", "Result", "batch"]


def batch(
    goals: Goals,
    *,
    concurrency: int | None = None,
    decide: Decide | None = None,
    on_result: Callable[[Result], None] | None = None,
    budget_usd: float | None = None,
    hours: float | None = None,
    fresh: bool = False,
    retry_failed: bool = False,
    name: str = "",
    settings: Settings | None = None,
) -> list[Result]:
    """Work on many goals until each has ended or waits for a person; returns how they stand, in their order.

    The same call again reports what has ended, goes on with what was parked, killed or answered, and starts the rest: a
    goal is known by its content, so an edited one starts anew. Ctrl-C parks all runs before it is raised.

    concurrency: goals driven at once, by threads of this process; by default one for each GPU, and at least 2.
    decide: answers the gates of all goals, one call at a time (see `postgrad.run`); without it a goal waits where its
    own policy may not answer. on_result: called in this thread with each result as it comes. What either raises parks
    the batch, and is raised.
    budget_usd, hours: caps of the whole batch, all calls together, beside each goal's own. Hours are wall-clock time.
    fresh: start every goal anew. retry_failed: go on with failed runs, too.
    name: what the batch is known by; by default its path, and for a list what all its goals say.

    A goal that cannot be used, or fails, is a result with its error. Raises BadInput for a batch without any goal.
    """
    work = Batch(
        goals,
        settings or load_settings(),
        name=name,
        fresh=fresh,
        concurrency=concurrency,
        budget_usd=budget_usd,
        hours=hours,
        retry_failed=retry_failed,
    )
    return work.run(decide, on_result)
