"""Statistics of scores: what a number is worth, whether two differ, and what a comparison could have shown.

Items that share a cluster (a passage, a scenario) are not independent: standard errors, resamples and flips of signs
then take clusters as a whole [Miller, arXiv 2411.00640]. A cluster without a name is an item that stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from shared_memory.records import Record

Floats = NDArray[np.float64]

RESAMPLES = 10_000
BATCH = 1_000
"""Resamples held in memory at once: 80 MB for 10,000 items."""
ALPHA = 0.05
POWER = 0.8
Z_ALPHA, Z_POWER = 1.959964, 0.841621
"""Standard normal quantiles of 1 − ALPHA / 2, and of POWER."""
MCNEMAR, SIGNS, SIGNS_BY_CLUSTER = "McNemar's test, mid-p", "permutation of signs", "permutation of signs by cluster"


class Comparison(Record):
    """Candidate minus baseline on the same items."""

    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int
    discordant: int
    """Items on which the two differ."""
    clusters: int = 0
    """Groups of items that were resampled as a whole; 0 where every item stands alone."""
    test: str
    """What `p_value` is of."""
    mde: float | None
    """The smallest true difference that this comparison shows in 80 % of cases; None where nothing tells."""


def summarise(scores: Sequence[float], clusters: Sequence[str] = ()) -> tuple[float, float, int]:
    """Mean, its standard error (0 for a single score, which has none to show) and the number of scores.

    `clusters`: the name of each score's cluster; the error then is the clustered one.
    """
    n = len(scores)
    mean = math.fsum(scores) / n
    return mean, _stderr(np.array(scores, dtype=float), labels_of(clusters or [""] * n)), n


def labels_of(clusters: Sequence[str]) -> NDArray[np.int64]:
    """A number for the cluster of each item. One cluster of everything tells nothing: then each item has its own."""
    numbers: dict[str | int, int] = {}
    labels = [numbers.setdefault(name or place, len(numbers)) for place, name in enumerate(clusters)]
    return np.array(labels if len(numbers) > 1 else range(len(labels)))


def clusters_in(clusters: Sequence[str]) -> int:
    """How many groups the items make; 0 where every item stands alone."""
    groups = len(set(labels_of(clusters).tolist()))
    return groups if groups < len(clusters) else 0


def _stderr(values: Floats, labels: NDArray[np.int64]) -> float:
    """Root of the sum of squares of the clusters' summed deviations, over n [Miller].

    Times √(G / (G − 1)) for G clusters, which makes it the usual s / √n where every item is one.
    """
    groups = int(labels.max()) + 1
    if groups == 1:
        return 0.0
    sums = np.bincount(labels, weights=values - values.mean())
    return math.sqrt(float(sums @ sums) * groups / (groups - 1)) / len(values)


def paired_comparison(
    baseline: Mapping[str, float],
    candidate: Mapping[str, float],
    clusters: Mapping[str, str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """The mean paired difference with its 95 % interval, its two-sided p-value and its minimum detectable effect.

    The interval is the bootstrap's (percentiles; pairs, or clusters of them, are drawn with a fixed seed), with two
    corrections where few items differ and the bootstrap is too narrow. For right and wrong alone it reaches at least as
    far as the adjusted Wald interval; and 0 belongs to it wherever the test does not reject 0 at 5 %.

    The test is McNemar's (mid-p) where every score is 0 or 1 and every item stands alone, else a permutation that flips
    the signs of the differences [Fisher 1935], of clusters as a whole.

    `clusters`: item → its cluster. The order of the items changes nothing, and the exchange of the two sides the signs
    alone. Raises ValueError where the two do not cover the same items.
    """
    if baseline.keys() != candidate.keys():
        raise ValueError("baseline and candidate were not scored on the same items")
    items = sorted(baseline)
    differences = np.array([candidate[item] - baseline[item] for item in items], dtype=float)
    named = [(clusters or {}).get(item, "") for item in items]
    n, labels, groups = len(items), labels_of(named), clusters_in(named)
    delta = float(differences.mean())
    # rounded, so that equal sums are equal in whatever order they were added
    sums: Floats = np.round(np.bincount(labels, differences), 12).astype(np.float64)
    sizes: Floats = np.bincount(labels).astype(np.float64)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    pairs = not groups and {*baseline.values(), *candidate.values()} <= {0.0, 1.0}
    p_value = mid_p_mcnemar(wins, losses) if pairs else sign_flip_p(sums, seed=seed, resamples=resamples)
    ends = [*_bootstrap(sums, sizes, seed, resamples)]
    if pairs:
        ends += _adjusted_wald(wins, losses, n)
    if p_value >= ALPHA:
        ends.append(0.0)
    mde = (
        minimum_detectable(n, discordance=(wins + losses) / n)
        if pairs
        else (Z_ALPHA + Z_POWER) * _stderr(differences, labels)
    )
    return Comparison(
        delta=delta,
        ci_low=min(ends),
        ci_high=max(ends),
        p_value=p_value,
        n=n,
        discordant=wins + losses,
        clusters=groups,
        test=MCNEMAR if pairs else SIGNS_BY_CLUSTER if groups else SIGNS,
        mde=mde or None,
    )


def _bootstrap(sums: Floats, sizes: Floats, seed: int, resamples: int) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of clusters with these sums of differences and these sizes.

    How often each kind of cluster comes up in a resample is multinomial. Of right and wrong there are three kinds,
    which makes it many times faster than to draw items. Where all differ alike, the interval is that one value.
    """
    sign = -1.0 if round(float(sums.sum()), 9) < 0 else 1.0
    kinds, counts = np.unique(np.stack([sign * sums, sizes]), axis=1, return_counts=True)
    rng, groups, means = np.random.default_rng(seed), len(sums), []
    for start in range(0, resamples, BATCH):
        drawn = rng.multinomial(groups, counts / groups, size=min(BATCH, resamples - start))
        means.append(drawn @ kinds[0] / (drawn @ kinds[1]))
    low, high = np.quantile(np.concatenate(means), [ALPHA / 2, 1 - ALPHA / 2])
    return (float(low), float(high)) if sign > 0 else (-float(high), -float(low))


def _adjusted_wald(wins: int, losses: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a difference of paired shares, one more pair added to each side [Bonett, Price 2012]."""
    won, lost = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = Z_ALPHA * math.sqrt((won + lost - (won - lost) ** 2) / (n + 2))
    return max(-1.0, won - lost - half), min(1.0, won - lost + half)


def sign_flip_p(differences: Floats, *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p-value of a mean difference: how often random signs make one as large; exact where they are few."""
    differing = np.sort(differences[differences != 0])
    if len(differing) < 2:
        return 1.0  # either sign makes one as large
    from scipy import stats

    test = stats.permutation_test(
        (np.sort(-differing) if round(float(differing.sum()), 9) < 0 else differing,),
        lambda flipped, axis: np.abs(flipped.sum(axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples - 1,
        batch=BATCH,
        alternative="greater",
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


def minimum_detectable(
    n: int, *, discordance: float | None = None, rate: float | None = None, resamples: int = 1, within: float = 1.0
) -> float:
    """The smallest true difference that n items show at 5 % in 80 % of cases [Miller, arXiv 2411.00640, on power].

    Give `discordance`, the share of items on which two models differ, for a paired comparison; `rate`, the share that
    either gets right, for an unpaired one. `resamples`: answers K an item, of whose variance the share `within` is
    chance within items; the rest, which is between them, no number of answers makes less.
    """
    if discordance is None and rate is None:
        raise ValueError("give the discordance of a paired comparison, or the rate of an unpaired one")
    variance = discordance if discordance is not None else 2 * float(rate or 0) * (1 - float(rate or 0))
    z = Z_ALPHA + Z_POWER
    shown = z * math.sqrt(variance * (1 - within + within / resamples) / n)
    # pairs of right and wrong differ by δ on a share δ of them at least, and z √(δ / n) = δ where δ = z² / n
    return max(shown, z**2 / n) if discordance is not None and resamples == 1 else shown


def chance_within(scores: Mapping[str, Sequence[float]]) -> float | None:
    """The share of one answer's variance that is chance within an item; None where no item was asked twice.

    More answers an item make that part of a standard error smaller, and only more items the rest. Items' own variances
    and their means' variance are unbiased, so the share is cut at 0 and 1.
    """
    asked = [np.array(values, dtype=float) for values in scores.values() if len(values) > 1]
    if len(asked) < 2:
        return None
    within = float(np.mean([values.var(ddof=1) for values in asked]))
    spared = float(np.mean([1 / len(values) for values in asked]))
    between = max(0.0, float(np.var([values.mean() for values in asked], ddof=1)) - spared * within)
    return within / (within + between) if within + between else 0.0


def holm(p_values: Sequence[float], looked_at: int = 0) -> list[float]:
    """The p-values corrected for having looked at several candidates [Holm 1979]; those below 5 % stay claims.

    `looked_at`: how many there were, where not all of them are given; the others count as larger.
    """
    family = max(looked_at, len(p_values))
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (family - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def expected_maximum(k: int) -> float:
    """The mean of the greatest of k independent standard normal draws."""
    from scipy import integrate, stats

    def density(x: float) -> float:
        return float(x * k * stats.norm.pdf(x) * stats.norm.cdf(x) ** (k - 1))

    return float(integrate.quad(density, -10, 10)[0])


def lead_by_chance(candidates: Sequence[Mapping[str, float]]) -> float | None:
    """How much better than it is the best of these would look, if all were equally good (the winner's curse).

    Its items were easy or hard for all of them, which sets nobody apart: what does is their paired differences, each of
    which has the chance of two. None for fewer than two candidates, or without items that all were scored on.
    """
    items = sorted(set.intersection(*(set(scores) for scores in candidates))) if len(candidates) > 1 else []
    if len(items) < 2:
        return None
    table = np.array([[scores[item] for item in items] for scores in candidates])
    variance = np.mean([np.var(a - b, ddof=1) for a, b in combinations(table, 2)])
    return expected_maximum(len(candidates)) * math.sqrt(float(variance) / 2 / len(items))
