"""Measures the rules that choose and claim: false wins, power, what the incumbent rule keeps, and the winner's curse.

    python benchmarks/claims.py [--runs 5000] [--json]

Simulated runs through the functions of a real one. The incumbent is `routing.incumbent` of a state with the scores of
the selection items; the claim is `paired_comparison` on disjoint report items with `ComparisonResult.win`. Items are
right or wrong with a probability of their own, which all equal models share: beta-distributed, so that two models of
33 % disagree on a quarter of the items. Where an effect is true, the items on which two models differ are drawn.

A comparison of right and wrong depends on how many items either side wins, whatever their order: it is made once for
every such table that comes up, with all its resamples. Seeded; fails where less is reached than `REACHED`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from agents.evaluator.statistics import (  # noqa: E402
    Comparison,
    expected_maximum,
    lead_by_chance,
    minimum_detectable,
    paired_comparison,
)
from graph import routing  # noqa: E402
from graph.state import RunState  # noqa: E402
from shared_memory.metric import Metric  # noqa: E402
from shared_memory.recipes import SftRecipe  # noqa: E402
from shared_memory.records import ComparisonResult, EvalResult, Experiment, Part  # noqa: E402

Floats = NDArray[np.float64]

CANDIDATES = 10
RATE, DISCORDANCE = 0.33, 0.25
SPREAD = RATE * (1 - RATE) / (RATE * (1 - RATE) - DISCORDANCE / 2) - 1
"""a + b of the beta distribution of the items' probabilities: 2 E[p (1 − p)] is the discordance of equal models."""
HALVES = {"198 (Diamond)": (99, 99), "448 (GPQA main)": (224, 224), "1319 (GSM8K)": (660, 659)}
"""Items of a benchmark → how many select, and how many report."""
REACHED = {"false wins": 0.035, "power": 0.75, "kept": 0.75}
FEWER = 5
"""How many times fewer runs where every comparison has to be made anew."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    figures = measure(arguments.runs)
    figures["seconds"] = round(time.monotonic() - began)
    print(json.dumps(figures, indent=2) if arguments.json else "\n".join(_lines(figures)))
    return 0 if reached(figures) else 1


def measure(runs: int) -> dict[str, Any]:
    """All figures; shares are fractions of 1, effects in fractions too."""
    fewer = max(1, runs // FEWER)
    return {
        "runs": runs,
        "false wins of the best of 10": {name: best_of_ten(*sizes, runs) for name, sizes in HALVES.items()},
        "power at the stated effect": {
            f"n={n}, discordance {d:g}": power(n, d, runs) for n in (50, 99, 224, 448, 1319) for d in (0.1, 0.25, 0.4)
        },
        "power at the stated effect, K=5": {f"n={n}": power_resampled(n, 5, fewer) for n in (99, 224)},
        "true +3 points at 224 items": kept(224, 0.03, runs),
        "lead of the best of 10 equals": {f"n={n}": winners_curse(n, runs) for n in (50, 198, 448)},
        "45 passages of 5 items, no effect": clustered(45, 5, fewer),
        "prior of n items, candidates on 50 and on 224": {
            f"effects of {points} points": prior(points / 100, runs) for points in (3, 6, 10, 20)
        },
    }


def reached(figures: dict[str, Any]) -> bool:
    """Whether everything that was promised is."""
    wins = [row["claimed on report items"] for row in figures["false wins of the best of 10"].values()]
    powers = [row["power"] for kind in ("", ", K=5") for row in figures[f"power at the stated effect{kind}"].values()]
    return (
        max(wins) <= REACHED["false wins"]
        and min(powers) >= REACHED["power"]
        and figures["true +3 points at 224 items"]["incumbent rule"] >= REACHED["kept"]
    )


def best_of_ten(select: int, report: int, runs: int, seed: int = 0) -> dict[str, float]:
    """How often a candidate that is no better is called a win."""
    rng = np.random.default_rng(seed)
    honest = flattered = chosen = 0
    for _ in range(runs):
        scores = equals(rng, CANDIDATES + 1, select)
        name = incumbent(scores.mean(1), select)
        if not name:
            continue
        chosen += 1
        flattered += win(scores[0], scores[name])
        honest += win(*equals(rng, 2, report))
    return {
        "claimed on report items": honest / runs,
        "claimed on the items that chose": flattered / runs,
        "a candidate became incumbent": chosen / runs,
    }


def power(n: int, discordance: float, runs: int, seed: int = 0) -> dict[str, float]:
    """How often a true effect at the stated minimum is called a win."""
    effect = minimum_detectable(n, discordance=discordance)
    found = [compared(wins, losses, n) for wins, losses in tables(n, discordance, effect, runs, seed)]
    stated = np.mean([comparison.mde for comparison in found])
    return {
        "effect": effect,
        "power": float(np.mean([is_win(comparison) for comparison in found])),
        "coverage": float(np.mean([comparison.ci_low <= effect <= comparison.ci_high for comparison in found])),
        "stated by the comparison": float(stated),
    }


def power_resampled(n: int, k: int, runs: int, seed: int = 0) -> dict[str, float]:
    """The same where every item is asked K times, and the candidate gets a share of what the baseline lacks of it."""
    rng = np.random.default_rng(seed)
    p, effect = difficulties(rng, 200_000), 0.0
    for _ in range(5):  # the effect adds to the discordance that it is planned by
        q = lifted(p, effect)
        chance = np.mean(p * (1 - p) + q * (1 - q))
        discordance = float(np.mean(p * (1 - q) + q * (1 - p)))
        effect = minimum_detectable(n, discordance=discordance, resamples=k, within=float(chance) / discordance)
    won = 0
    for _ in range(runs):
        p = difficulties(rng, n)
        won += is_win(paired_comparison(*(named(rng.binomial(k, each) / k) for each in (p, lifted(p, effect)))))
    return {"effect": effect, "power": won / runs}


def lifted(p: Floats, effect: float) -> Floats:
    """Probabilities that are greater by `effect` on the mean."""
    return p + effect * (1 - p) / (1 - RATE)


def kept(n: int, effect: float, runs: int, seed: int = 0) -> dict[str, float]:
    """How often a true gain becomes the incumbent, and how often it would if an interval above 0 were asked for."""
    found = tables(n, DISCORDANCE, effect, runs, seed)
    base = round(RATE * n)
    rule = np.mean([incumbent(np.array([base, base + wins - losses]) / n, n) == 1 for wins, losses in found])
    interval = np.mean([is_win(compared(wins, losses, n)) for wins, losses in found])
    return {"incumbent rule": float(rule), "an interval above 0": float(interval)}


def winners_curse(n: int, runs: int, seed: int = 0) -> dict[str, float]:
    """How much better than it is the best of ten equal candidates looks, on items of their own and on shared ones."""
    rng = np.random.default_rng(seed)
    own = rng.binomial(n, RATE, (runs, CANDIDATES)).max(1) / n - RATE
    shared, foretold = [], []
    for number in range(runs):
        scores = equals(rng, CANDIDATES, n)
        shared.append(float(scores.mean(1).max() - scores.mean()))
        if number < 20:
            foretold.append(lead_by_chance([named(row) for row in scores]) or 0.0)
    return {
        "items of their own": float(own.mean()),
        "by formula": expected_maximum(CANDIDATES) * float(np.sqrt(RATE * (1 - RATE) / n)),
        "shared items": float(np.mean(shared)),
        "lead_by_chance": float(np.mean(foretold)),
    }


def clustered(passages: int, size: int, runs: int, seed: int = 0) -> dict[str, float]:
    """False wins where a model is lucky with whole passages, by passages and as if every item stood alone."""
    rng = np.random.default_rng(seed)
    names = {str(n): f"passage {n // size}" for n in range(passages * size)}
    by_passage = alone = 0
    for _ in range(runs):
        # either model understands a passage or it does not: 75 % or 12 % of its items are right
        p = np.where(rng.random((2, passages)) < RATE, 0.75, 0.12).repeat(size, axis=1)
        sides = [named(row) for row in (rng.random(p.shape) < p).astype(float)]
        by_passage += is_win(paired_comparison(*sides, names))
        alone += is_win(paired_comparison(*sides))
    return {"by passage": by_passage / runs, "as if items stood alone": alone / runs}


def prior(spread: float, runs: int, seed: int = 0) -> dict[str, float]:
    """The true gain of whichever of ten candidates ranks first, five scored on 50 items and five on 224.

    True effects are normal with this standard deviation. By the weight, in items, of the pull towards the baseline.
    """
    rng = np.random.default_rng(seed)
    sizes = np.array([50, 224]).repeat(CANDIDATES // 2)
    true = rng.normal(0, spread, (runs, CANDIDATES))
    seen = RATE + true + rng.normal(0, np.sqrt(DISCORDANCE / sizes), true.shape)
    gains: dict[str, float] = {}
    for items in (0, 4, 16, routing.PRIOR_ITEMS, 256):
        believed = np.array([[shrunken(v, n, items) for v, n in zip(row, sizes, strict=True)] for row in seen])
        best = believed.argmax(1)
        gain = np.where(believed.max(1) > RATE, true[np.arange(runs), best], 0.0)
        gains[f"{items} items"] = float(gain.mean())
    return gains


def shrunken(value: float, n: int, items: float) -> float:
    return Metric(name="b", value=value, stderr=0.0, n=n).shrunken(RATE, items).value


def difficulties(rng: np.random.Generator, n: int) -> Floats:
    return rng.beta(RATE * SPREAD, (1 - RATE) * SPREAD, n)


def equals(rng: np.random.Generator, models: int, n: int) -> Floats:
    """Scores of equally good models on the same items: (models, n) of 0 and 1."""
    return (rng.random((models, n)) < difficulties(rng, n)).astype(float)


def tables(n: int, discordance: float, effect: float, runs: int, seed: int) -> list[tuple[int, int]]:
    """Items that the candidate wins and loses, of n; no effect is greater than the discordance."""
    discordance = max(discordance, effect)
    shares = [(discordance + effect) / 2, (discordance - effect) / 2, 1 - discordance]
    return [(int(won), int(lost)) for won, lost, _ in np.random.default_rng(seed).multinomial(n, shares, runs)]


def named(scores: Floats) -> dict[str, float]:
    return {str(item): float(score) for item, score in enumerate(scores)}


def win(baseline: Floats, candidate: Floats) -> bool:
    return is_win(compared(int((candidate > baseline).sum()), int((candidate < baseline).sum()), len(baseline)))


@cache
def compared(wins: int, losses: int, n: int) -> Comparison:
    """The comparison of right and wrong with this table, over all the resamples of a real one."""
    candidate = np.array([1.0] * wins + [0.0] * (n - wins))
    baseline = np.array([0.0] * wins + [1.0] * losses + [0.0] * (n - wins - losses))
    return paired_comparison(named(baseline), named(candidate))


def is_win(found: Comparison) -> bool:
    """As `scored.claim` fills the record."""
    return ComparisonResult(benchmark="b", experiment="e", **found.model_dump(exclude={"clusters"})).win


def incumbent(scores: Floats, n: int) -> int:
    """The number of the candidate that `routing` makes the incumbent; the first score is the baseline's, which is 0."""
    names = [routing.BASELINE, *(f"e{number}" for number in range(1, len(scores)))]
    results = {
        f"{name}/b/selection": {**RESULT, "experiment": name, "score": float(score), "n": n}
        for name, score in zip(names, scores, strict=True)
    }
    experiments = {name: {**EXPERIMENT, "id": name} for name in names[1:]}
    state: RunState = {"goal": GOAL, "results": results, "experiments": experiments}
    return names.index(routing.incumbent(state))


GOAL: dict[str, Any] = {"text": "t", "benchmark": [{"path": "/b.jsonl"}]}
RESULT = EvalResult(
    experiment="", benchmark="b", part=Part.SELECTION, score=0.0, stderr=0.0, n=1, answered=1.0,
    accuracy_given_answered=0.0, truncated=0.0, settings_digest="s", items="i", job="j", seconds=1.0,
).plain()  # fmt: skip
EXPERIMENT = Experiment(
    id="e", parent="baseline", change="x", recipe=SftRecipe(id="r"), dataset="d1", status="evaluated"
).plain()


def _lines(figures: dict[str, Any], indent: int = 0) -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += (
                ["", f"{'  ' * indent}{name}", *_lines(value, indent + 1)]
                if not indent
                else [
                    f"{'  ' * indent}{name:32} " + " · ".join(f"{key} {_figure(entry)}" for key, entry in value.items())
                    if any(isinstance(entry, float) for entry in value.values())
                    else f"{'  ' * indent}{name} {value}"
                ]
            )
        else:
            lines.append(f"{'  ' * indent}{name:32} {_figure(value)}")
    return lines


def _figure(value: float) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
