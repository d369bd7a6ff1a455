"""What a training's curves say of its health: one rule a function, from the latest values to a line of words.

A rule returns why something is wrong, with its numbers, or an empty text. Thresholds are set so that noise, a spike and
a slow pause raise no alarm: each needs a level, by the median or by all of a window, and for as long as the window
lasts. Where no source is named, a threshold is this project's own, and tests/trainer/test_monitor.py has the curves
that it was set by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev

SHORT = 20
"""Logged updates that a level is taken over, and that advice waits for."""
LONG = 50
"""Logged updates for which a thing has to go on before an online method is stopped for it."""

START_FACTOR, START_MARGIN = 2.0, 0.5
LOWEST_FACTOR, LOWEST_MARGIN = 3.0, 1.0
"""A loss has run away at more than START_FACTOR × its start + START_MARGIN, or LOWEST_FACTOR × its lowest level +
LOWEST_MARGIN: fine-tuning starts at 1 to 3 and falls, and ends far above both once weights are broken (11 to 12 is
what knows nothing of a vocabulary of 150,000 tokens)."""
MASKED_LOSS = 0.05
MASKED_WITHIN = 20
"""A loss under MASKED_LOSS within so many updates was not learned: nothing but trivial tokens is in it."""
GRADIENT_NORMS = (0.1, 10.0)
"""Where the norm of the gradients lies in a healthy fine-tuning."""
SPREADLESS = 0.99
"""Share of groups without a difference in reward above which nothing is learned: their advantages are all 0."""
FEW_MIXED = 0.85
"""Share of such groups above which most of the computing is for nothing."""
ENTROPY, ENTROPY_SHARE = 0.01, 0.1
"""Nats a token, and share of its own start, below which a policy does not explore any more [arXiv 2505.22617: what
reward can still be won goes to 0 with the entropy]."""
KL = 1.0
"""Nats a token from the reference above which a policy writes another language than it: tokens are e times as likely as
they were, on average."""
AT_THE_CAP = 0.95
"""Share of completions cut off at their longest length that counts as all."""
OFTEN_CUT = 0.5
CLIPPED = 0.3
"""Share of tokens whose ratio is clipped above which steps are too large for what was sampled."""
STALLED_SHARE, STALLED_SECONDS = 0.1, 600.0
"""A job has stalled whose rate is below STALLED_SHARE of its own median for so long."""
STALLED_LOGS = 10
RATE_LOGS = 30
"""Logged updates from which on a rate of its own is known."""


def not_a_number(loss: float) -> str:
    return "" if math.isfinite(loss) else f"the loss is {loss}"


def diverging(levels: Sequence[float], start: float, lowest: float) -> str:
    """levels: medians of the loss over SHORT updates, the latest SHORT of them; start, lowest: the first and the least
    of all such medians."""
    if len(levels) < SHORT:
        return ""
    bound = min(
        start + (START_FACTOR - 1) * abs(start) + START_MARGIN,
        lowest + (LOWEST_FACTOR - 1) * abs(lowest) + LOWEST_MARGIN,
    )
    if min(levels) <= bound:
        return ""
    return (
        f"the loss has been around {levels[-1]:.3g} for {SHORT} updates; it began at {start:.3g} and was {lowest:.3g}"
    )


def masked(losses: Sequence[float], updates: int) -> str:
    if len(losses) < 5 or updates > MASKED_WITHIN or (level := median(losses[-5:])) >= MASKED_LOSS:
        return ""
    return f"the loss is {level:.2g} after {updates} updates"


def odd_gradients(norms: Sequence[float]) -> str:
    low, high = GRADIENT_NORMS
    recent = norms[-SHORT:]
    if len(recent) < SHORT or not (max(recent) < low or min(recent) > high):
        return ""
    side = f"under {low:g}" if max(recent) < low else f"over {high:g}"
    return f"the norm of the gradients has been {side} for {SHORT} updates (now {recent[-1]:.2g})"


def no_spread(shares: Sequence[float], spreads: Sequence[float]) -> str:
    """shares: of groups whose rewards are all equal. spreads: standard deviations of the rewards of an update."""
    if len(shares) == LONG and fmean(shares) >= SPREADLESS:
        return f"in {fmean(shares):.0%} of the groups of the last {LONG} updates all completions got the same reward"
    if not shares and len(spreads) == LONG and max(spreads) < 1e-6:
        return f"all completions of the last {LONG} updates got the same reward"
    return ""


def few_mixed_groups(shares: Sequence[float]) -> str:
    if len(shares) < LONG or fmean(shares) <= FEW_MIXED:
        return ""
    return f"{fmean(shares):.0%} of the groups of the last {LONG} updates had no difference in reward to learn from"


def no_entropy(entropies: Sequence[float], start: float) -> str:
    if len(entropies) < LONG or max(entropies) >= min(ENTROPY, ENTROPY_SHARE * start):
        return ""
    return f"the entropy has been under {max(entropies):.2g} nats a token for {LONG} updates; it began at {start:.2g}"


def far_from_reference(kls: Sequence[float]) -> str:
    """The median, for the estimate of the KL divergence is a mean of exponentials, and single ones are huge."""
    recent = kls[-SHORT:]
    if len(recent) < SHORT or (level := median(recent)) <= KL:
        return ""
    return f"the KL divergence from the reference has been {level:.2g} nats a token over {SHORT} updates"


def at_the_cap(shares: Sequence[float], rewards: Sequence[float]) -> str:
    """shares: of completions that were cut off. What is cut off and still learns (its reward rises) may go on."""
    if len(shares) < LONG or min(shares) < AT_THE_CAP or _rises(rewards):
        return ""
    return f"for {LONG} updates {fmean(shares):.0%} of the completions were cut off, and their reward does not rise"


def often_cut(shares: Sequence[float]) -> str:
    recent = shares[-SHORT:]
    if len(recent) < SHORT or fmean(recent) <= OFTEN_CUT:
        return ""
    return f"{fmean(recent):.0%} of the completions of the last {SHORT} updates were cut off"


def often_clipped(shares: Sequence[float]) -> str:
    recent = shares[-SHORT:]
    if len(recent) < SHORT or (level := median(recent)) <= CLIPPED:
        return ""
    return f"{level:.0%} of the tokens are clipped"


def stalled(rates: Sequence[float], seconds: Sequence[float], unit: str) -> str:
    """rates: of all intervals between logged updates, in `unit`s a second. seconds: how long each of them took.

    The median of the latest, so that one evaluation or checkpoint among them is no stall.
    """
    if len(rates) < RATE_LOGS or sum(seconds[-STALLED_LOGS:]) < STALLED_SECONDS:
        return ""
    own, now = median(rates), median(rates[-STALLED_LOGS:])
    if now >= STALLED_SHARE * own:
        return ""
    return f"it makes {now:.3g} {unit}s a second, after {own:.3g} before"


def _rises(values: Sequence[float]) -> bool:
    """Whether the later half lies above the earlier one by more than two standard errors."""
    half = len(values) // 2
    early, late = values[:half], values[half:]
    if half < 2:
        return False
    error = math.sqrt(stdev(early) ** 2 / len(early) + stdev(late) ** 2 / len(late))
    return fmean(late) - fmean(early) > 2 * error
