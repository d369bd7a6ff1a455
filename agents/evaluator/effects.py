"""What the scores of experiments say of a champion's parts: effects with their intervals, and the noise beside them.

Pure functions of records and item scores. Selection items chose the champion, so nothing here is a claim.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from statistics import fmean, stdev
from typing import Any, Literal

from agents.evaluator.ablations import DATA, LEFT_OUT, SEED, STAGES, Makeup, change_of, differing, makeup, words_of
from agents.evaluator.statistics import holm, paired_comparison, summarise
from shared_memory.ablations import Effect, EffectTable, Noise, PartKind
from shared_memory.records import DatasetRecord, Experiment, canonical_digest

Scores = Mapping[str, float]
"""Item → score."""


def table(
    champion: str,
    experiments: Mapping[str, Experiment],
    datasets: Mapping[str, DatasetRecord],
    scores: Mapping[str, Scores],
    *,
    unit: Literal["fraction", "nats"] = "fraction",
    higher_is_better: bool = True,
    clusters: Mapping[str, str] | None = None,
    seed: int = 0,
) -> EffectTable:
    """What the scores say of the champion's parts: `scores` is experiment → item → score, all measured in one way.

    An effect is a pair of experiments that differ in one part alone, of which one has it as the champion does. `seed`
    is the training seed of the experiments that name none.
    """
    made = {name: makeup(name, experiments, datasets) for name in scores if name in experiments}
    if champion not in made:
        return EffectTable(champion=champion)
    noise = _noise(made, scores, seed, unit)
    measure = _Measure(scores, unit, higher_is_better, clusters)
    effects = []
    for given, other in permutations(made, 2):
        parts = differing(made[given], made[other])
        if len(parts) == 1 and parts[0] != SEED and made[given].get(parts[0]) == made[champion].get(parts[0]):
            effects.append(measure.effect(parts[0], made, given, other))
    interactions = [measure.interaction(made, *cells) for cells in _squares(made, made[champion])]
    return _told(champion, [effect for effect in (*effects, *interactions) if effect is not None], noise)


def joined(tables: Sequence[EffectTable]) -> EffectTable:
    """The tables of several runs as one, of the first one's champion: corrected and pulled together for all of it."""
    noise = next((entry.noise for entry in reversed(tables) if entry.noise), None)
    return _told(
        tables[0].champion, [effect for entry in tables for effect in (*entry.effects, *entry.interactions)], noise
    )


def _told(champion: str, measured: Sequence[Effect], noise: Noise | None) -> EffectTable:
    """A table of what was measured, corrected for all of it and pulled together."""
    every = shrunken(_corrected(measured), noise.deviation if noise else 0.0)
    return EffectTable(
        champion=champion,
        effects=tuple(effect for effect in every if effect.kind != "several"),
        interactions=tuple(effect for effect in every if effect.kind == "several"),
        noise=noise,
    )


def shrunken(effects: Sequence[Effect], deviation: float = 0.0) -> list[Effect]:
    """The effects with their gains pulled to 0: what is as small as its noise is believed the less.

    Empirical Bayes [Morris 1983, J. Am. Stat. Assoc. 78]: the true gains are taken as normal around 0, with what their
    squares exceed their errors by as variance, and each is multiplied by that variance over itself plus its error's.
    `deviation` is the standard deviation of one training between seeds, which two trainings have each.
    """
    if not effects:
        return []
    errors = [effect.stderr**2 + 2 * deviation**2 for effect in effects]
    variance = max(0.0, fmean(effect.gain**2 - error for effect, error in zip(effects, errors, strict=True)))
    factors = [variance / (variance + error) if variance + error else 0.0 for error in errors]
    return [
        effect.model_copy(update={"shrunken": factor * effect.gain})
        for effect, factor in zip(effects, factors, strict=True)
    ]


def _corrected(effects: Sequence[Effect]) -> list[Effect]:
    corrected = holm([effect.p_value for effect in effects])
    return [effect.model_copy(update={"p_holm": p}) for effect, p in zip(effects, corrected, strict=True)]


@dataclass(frozen=True)
class _Measure:
    """Compares experiments on the items that each was scored on."""

    scores: Mapping[str, Scores]
    unit: Literal["fraction", "nats"]
    higher_is_better: bool
    clusters: Mapping[str, str] | None

    def effect(self, part: str, made: Mapping[str, Makeup], given: str, other: str) -> Effect | None:
        """None where the two were not scored on the same items."""
        values = made[given].get(part), made[other].get(part)
        return self._compared(
            self.scores[given],
            self.scores[other],
            part=part,
            kind=_kind_of(part, values),
            change=change_of(part, *values),
            given=given,
            other=other,
            raised=_raised(*values),
        )

    def interaction(self, made: Mapping[str, Makeup], both: str, one: str, two: str, none: str) -> Effect | None:
        """(both − without one) − (without two − without both): zero where the two parts simply add up."""
        first, second = differing(made[both], made[one])[0], differing(made[both], made[two])[0]
        cells = [self.scores[name] for name in (both, none, one, two)]
        if any(cell.keys() != cells[0].keys() for cell in cells):
            return None
        have, lack = ({item: a[item] + b[item] for item in a} for a, b in (cells[:2], cells[2:]))
        change = f"{words_of(first)} and {words_of(second)} together"
        part = f"{first} × {second}"
        return self._compared(have, lack, part=part, kind="several", change=change, given=both, other=none)

    def _compared(self, have: Scores, lack: Scores, **facts: Any) -> Effect | None:
        if have.keys() != lack.keys() or not have:
            return None
        items = sorted(have)
        clusters = [self.clusters.get(item, "") for item in items] if self.clusters else ()
        _, stderr, n = summarise([have[item] - lack[item] for item in items], clusters)
        paired = paired_comparison(lack, have, self.clusters)
        return Effect(
            delta=paired.delta,
            stderr=stderr,
            ci_low=paired.ci_low,
            ci_high=paired.ci_high,
            p_value=paired.p_value,
            p_holm=paired.p_value,
            n=n,
            unit=self.unit,
            higher_is_better=self.higher_is_better,
            shrunken=0.0,
            **facts,
        )


def _squares(made: Mapping[str, Makeup], best: Makeup) -> Iterator[tuple[str, str, str, str]]:
    """Experiments with two of the champion's parts, without either of them, and without both."""
    for both in made:
        without = {
            parts[0]: name
            for name in made
            if len(parts := differing(made[both], made[name])) == 1
            and parts[0] != SEED
            and made[both].get(parts[0]) == best.get(parts[0])
        }
        for (first, one), (second, two) in combinations(without.items(), 2):
            for none in made:
                if {*differing(made[both], made[none])} == {first, second} and (
                    made[none].get(first) == made[one].get(first) and made[none].get(second) == made[two].get(second)
                ):
                    yield both, one, two, none


def _noise(
    made: Mapping[str, Makeup], scores: Mapping[str, Scores], seed: int, unit: Literal["fraction", "nats"]
) -> Noise | None:
    """Of the recipe that was trained by most seeds."""
    groups: dict[str, dict[int, str]] = defaultdict(dict)
    for name, parts in made.items():
        by = seed if parts[SEED] is None else parts[SEED]
        groups[canonical_digest({**parts, SEED: None})].setdefault(by, name)
    names = max(groups.values(), key=len, default={})
    if len(names) < 2:
        return None
    means = [fmean(scores[name].values()) for name in names.values()]
    return Noise(
        experiments=tuple(names.values()),
        seeds=tuple(names),
        scores=tuple(means),
        deviation=stdev(means),
        n=len(scores[next(iter(names.values()))]),
        unit=unit,
    )


def _kind_of(part: str, values: Sequence[Any]) -> PartKind:
    if part == STAGES:
        return "stage"
    return "data" if LEFT_OUT in values or part == DATA else "number"


def _raised(value: Any, other: Any) -> bool | None:
    """Whether the first is the larger number."""
    numbers = [_number(each) for each in (value, other)]
    if numbers[0] is None or numbers[1] is None or numbers[0] == numbers[1]:
        return None
    return numbers[0] > numbers[1]


def _number(value: Any) -> float | None:
    if isinstance(value, list):
        return float(sum(value))
    if isinstance(value, dict):
        value = value.get("r")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
