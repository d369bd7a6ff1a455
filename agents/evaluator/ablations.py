"""What can be varied about a champion to learn what each part of it is worth: pure functions of records.

An experiment is taken apart into everything that its result depends on (`makeup`); two that differ in one part alone
measure what that part is worth, whoever planned them (see effects.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from shared_memory.ablations import PartKind, Variant
from shared_memory.recipes import GrpoRecipe, Recipe, RlooRecipe, numbers_of, recipe_of
from shared_memory.records import DatasetRecord, Experiment, canonical_digest

Makeup = dict[str, Any]
"""Part → its value, as plain data; parts of the data that are left out are there by name, as LEFT_OUT."""
LEFT_OUT = "left out"
USED = "used"
SEED, DATA, STAGES, REWARD = "seed", "data", "epochs", "reward "
NO_MATHEMATICS = ("micro_batch",)
MOST_FACTORS = 3
"""Factors of a sweep: two levels of three are eight trainings."""


def makeup(name: str, experiments: Mapping[str, Experiment], datasets: Mapping[str, DatasetRecord]) -> Makeup:
    """Everything that the result of an experiment depends on, part by part."""
    experiment = experiments[name]
    numbers = {key: value for key, value in numbers_of(experiment.recipe).items() if key not in NO_MATHEMATICS}
    rewards = {f"{REWARD}{reward}": USED for reward in numbers.pop("rewards", ())}
    data = datasets.get(experiment.dataset)
    left_out = dict.fromkeys(data.without if data else (), LEFT_OUT)
    origin = canonical_digest(data.making) if data and data.making else experiment.dataset
    return {
        **numbers, **rewards, **left_out, DATA: origin, SEED: experiment.seed, STAGES: _stages(experiment, experiments)
    }  # fmt: skip


def _stages(experiment: Experiment, experiments: Mapping[str, Experiment]) -> list[int]:
    """Epochs of each training on the way to its weights: `[2]` is one of two, `[1, 1]` goes on from a first one."""
    parent = experiments.get(experiment.parent)
    if not experiment.continues or parent is None:
        return [experiment.recipe.epochs]
    before = _stages(parent, experiments)
    return [*before, experiment.recipe.epochs - sum(before)]


def differing(one: Makeup, other: Makeup) -> list[str]:
    """The parts in which two differ."""
    return [part for part in {**one, **other} if one.get(part) != other.get(part)]


def reference_of(champion: str, experiments: Mapping[str, Experiment]) -> str:
    """The experiment that parts are taken away from: the champion, or where it went on from checkpoints, their first.

    What comes after a first stage is a part of its own, which the stages before it measure; and a variant of that first
    one costs one training, and differs from it in one thing.
    """
    experiment = experiments[champion]
    while experiment.continues and experiment.parent in experiments:
        experiment = experiments[experiment.parent]
    return experiment.id


def leave_one_out(
    reference: Experiment, experiments: Mapping[str, Experiment], recipes: Mapping[str, Recipe], data: Iterable[Variant]
) -> tuple[Variant, ...]:
    """The reference without each of its parts, what matters most to the search first; one variant a part.

    First the numbers that the search has changed, taken back to what the first experiment of the line had, or to the
    library's recipe; then the parts of the `data`; then the other numbers, half as large or turned off.
    """
    first = reference
    while first.parent in experiments:
        first = experiments[first.parent]
    origins = [first.recipe, *(recipe for recipe in recipes.values() if recipe.id == reference.recipe.id)]
    known: dict[str, Variant] = {}
    for variant in (*_taken_back(reference.recipe, origins), *data, *_less(reference.recipe)):
        known.setdefault(variant.part, variant)
    return tuple(known.values())


def _taken_back(recipe: Recipe, origins: Sequence[Recipe]) -> Iterator[Variant]:
    numbers = numbers_of(recipe)
    for origin in origins:
        for part, old in numbers_of(origin).items():
            if origin.method == recipe.method and part not in NO_MATHEMATICS and old != numbers[part]:
                yield from _with(recipe, part, old)


def _less(recipe: Recipe) -> Iterator[Variant]:
    """Each number with less of what it gives: half of it where half is still something, none where it can be off."""
    numbers = numbers_of(recipe)
    if recipe.lora is not None and recipe.lora.r > 1:
        halved = {"r": recipe.lora.r // 2, "alpha": max(1, recipe.lora.alpha // 2)}
        yield from _with(recipe, "lora", numbers["lora"] | halved)
    yield from _with(recipe, "learning_rate", float(f"{recipe.learning_rate / 2:.3g}"))
    if recipe.epochs > 1:
        yield from _with(recipe, STAGES, recipe.epochs - 1)
    if recipe.lr_scheduler != "constant":
        yield from _with(recipe, "lr_scheduler", "constant")
    rewards = numbers.get("rewards", [])
    for reward in rewards if len(rewards) > 1 else ():
        others = [other for other in rewards if other != reward]
        yield Variant(
            part=f"{REWARD}{reward}", kind="number", change=f"without the reward {reward}", numbers={"rewards": others}
        )
    off = {"packing": False, "warmup_ratio": 0.0, "center_rewards": 0.0, "on_policy": 0.0}
    if isinstance(recipe, GrpoRecipe | RlooRecipe):
        off["beta"] = 0.0
    for part, nothing in off.items():
        if numbers.get(part):
            yield from _with(recipe, part, nothing)


def _with(recipe: Recipe, part: str, value: Any) -> Iterator[Variant]:
    """The recipe with another number; nothing where its method cannot have that."""
    numbers = {part: value}
    if part == "batch" and value % recipe.micro_batch:
        numbers["micro_batch"] = value
    try:
        recipe_of({**recipe.plain(), **numbers})
    except ValueError:
        return
    kind: PartKind = "stage" if part == STAGES else "number"
    change = f"with {words_of(part)} {change_of(part, numbers_of(recipe)[part], value)}"
    yield Variant(part=part, kind=kind, change=change, numbers=numbers)


def seeds(count: int, given: int) -> tuple[Variant, ...]:
    """The reference again, by `count` other seeds than the `given` one: how much a score moves by itself."""
    return tuple(
        Variant(part=SEED, kind="seed", change=f"again, by seed {seed}", seed=seed)
        for seed in range(given + 1, given + 1 + count)
    )


def factorial(factors: Sequence[Variant]) -> tuple[Variant, ...]:
    """Every combination of two or more of the factors; each alone, and none, are the leave-one-out and the reference.

    Raises ValueError for fewer than two factors, for more than MOST_FACTORS, and for two that change the same.
    """
    if not 2 <= len(factors) <= MOST_FACTORS:
        raise ValueError(f"a factorial sweep takes 2 to {MOST_FACTORS} factors, and these are {len(factors)}")
    sizes = range(2, len(factors) + 1)
    return tuple(_together(chosen) for size in sizes for chosen in combinations(factors, size))


def _together(variants: Sequence[Variant]) -> Variant:
    numbers: dict[str, Any] = {}
    for variant in variants:
        if numbers.keys() & variant.numbers.keys():
            raise ValueError(f"two factors change {', '.join(numbers.keys() & variant.numbers.keys())}")
        numbers |= variant.numbers
    left_out = dict.fromkeys(part for variant in variants for part in variant.without)
    return Variant(
        part=" × ".join(variant.part for variant in variants),
        kind="several",
        change=" and ".join(variant.change for variant in variants),
        numbers=numbers,
        without=tuple(left_out),
    )


def untried(
    variants: Iterable[Variant],
    reference: str,
    experiments: Mapping[str, Experiment],
    datasets: Mapping[str, DatasetRecord],
) -> tuple[Variant, ...]:
    """Those that no experiment is, whatever became of it."""
    tried = [makeup(name, experiments, datasets) for name in experiments]
    base = makeup(reference, experiments, datasets)
    recipe = experiments[reference].recipe
    return tuple(variant for variant in variants if _varied(base, recipe, variant) not in tried)


def _varied(base: Makeup, recipe: Recipe, variant: Variant) -> Makeup:
    varied = {part: value for part, value in base.items() if not part.startswith(REWARD)}
    numbers = {**numbers_of(recipe), **variant.numbers}
    varied |= {f"{REWARD}{reward}": USED for reward in numbers.pop("rewards", ())}
    varied |= {part: numbers[part] for part in variant.numbers if part in varied and part != STAGES}
    if STAGES in variant.numbers:
        varied[STAGES] = [variant.numbers[STAGES]]
    varied |= dict.fromkeys(variant.without, LEFT_OUT)
    return {**varied, SEED: base[SEED] if variant.seed is None else variant.seed}


def words_of(part: str) -> str:
    """A part as a person calls it."""
    return part.replace("_", " ")


def change_of(part: str, value: Any, other: Any) -> str:
    if LEFT_OUT in (value, other):
        return LEFT_OUT if other == LEFT_OUT else "kept"
    if part.startswith(REWARD):
        return LEFT_OUT if other is None else USED
    return " → ".join(_shown(each, beside) for each, beside in ((value, other), (other, value)))


def _shown(value: Any, beside: Any) -> str:
    """A value, of an adapter as much as tells it from the other."""
    if isinstance(value, list):
        return " + ".join(map(str, value))
    if isinstance(value, dict):
        letters = {"r": "r", "alpha": "α"}
        told = {key: each for key, each in value.items() if not isinstance(beside, dict) or beside.get(key) != each}
        told.pop("alpha" if "r" in told else "", None)
        return " ".join(f"{letters.get(key, f'{key} ')}{each}" for key, each in told.items())
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
