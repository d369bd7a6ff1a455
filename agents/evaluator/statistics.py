"""Statistics of scores: what a number is worth, and whether two differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared_memory.records import Record

RESAMPLES = 10_000
BATCH = 1_000
"""Resamples held in memory at once: 80 MB for 10,000 items."""


class Comparison(Record):
    """Candidate minus baseline on the same items."""

    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int
    discordant: int
    """Items on which the two differ."""


def summarise(scores: Sequence[float]) -> tuple[float, float, int]:
    """Mean, its standard error (0 for a single score, which has none to show) and the number of scores."""
    n = len(scores)
    mean = math.fsum(scores) / n
    if n == 1:
        return mean, 0.0, 1
    variance = math.fsum((score - mean) ** 2 for score in scores) / (n - 1)
    return mean, math.sqrt(variance / n), n


def paired_comparison(baseline: Mapping[str, float], candidate: Mapping[str, float], *, seed: int = 0) -> Comparison:
    """The mean paired difference with its 95 % bootstrap interval and its two-sided p-value.

    The p-value is the mid-p of McNemar's test where every score is 0 or 1, else that of a permutation test that flips
    the signs of the differences [Fisher 1935].

    Items are resampled as pairs, with a fixed seed. Where all differences are equal there is nothing to resample, and
    the interval is that one value: a sample without any disagreement says nothing about how much there could be.

    Raises ValueError where the two do not cover the same items.
    """
    if baseline.keys() != candidate.keys():
        raise ValueError("baseline and candidate were not scored on the same items")
    differences = np.array([candidate[item] - baseline[item] for item in sorted(baseline)])
    n = len(differences)
    delta = float(differences.mean())
    if np.all(differences == differences[0]):
        low = high = delta
    else:
        from scipy import stats  # takes half a second to import, and only comparisons need it

        interval = stats.bootstrap(
            (differences,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=BATCH,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    binary = {*baseline.values(), *candidate.values()} <= {0.0, 1.0}
    return Comparison(
        delta=delta,
        ci_low=low,
        ci_high=high,
        p_value=mid_p_mcnemar(wins, losses) if binary else sign_flip_p(differences, seed=seed),
        n=n,
        discordant=wins + losses,
    )


def sign_flip_p(differences: NDArray[np.float64], *, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference: how often random signs make one as large; exact where they are few."""
    from scipy import stats

    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES - 1,
        batch=BATCH,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def mid_p_mcnemar(wins: int, losses: int) -> float:
    """Two-sided mid-p value of McNemar's exact test [Fagerland, Lydersen, Laake 2013]."""
    n = wins + losses
    if n == 0:
        return 1.0
    smaller = min(wins, losses)
    from scipy import stats

    tail = float(stats.binom.cdf(smaller, n, 0.5)) - 0.5 * float(stats.binom.pmf(smaller, n, 0.5))
    return min(1.0, 2 * tail)
