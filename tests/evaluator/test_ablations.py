"""What can be varied about a champion, and what the scores of its variants say, by arithmetic done by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agents.evaluator.ablations import factorial, leave_one_out, makeup, reference_of, seeds, untried
from agents.evaluator.effects import joined, shrunken, table
from shared_memory.ablations import Effect, Variant
from shared_memory.recipes import GrpoRecipe, Lora, SftRecipe
from shared_memory.records import DatasetRecord, Experiment

LIBRARY = SftRecipe(id="r", learning_rate=1e-3, batch=8, micro_batch=8)
MAKING = {"proposal": {"sources": ["/a.jsonl"]}}
WHOLE = DatasetRecord(id="d1", source="a", path="/d1", digest="1", rows=200, making=MAKING)
DATASETS = {"d1": WHOLE, "d2": WHOLE.model_copy(update={"id": "d2", "digest": "2", "without": ("balance_letters",)})}
BALANCE = Variant(
    part="balance_letters", kind="data", change="without letter balancing", without=("balance_letters",)
)  # fmt: skip


def trained(name: str, parent: str = "baseline", **changes: Any) -> Experiment:
    more = {key: changes.pop(key) for key in ("dataset", "seed", "continues") if key in changes}
    recipe = LIBRARY.model_copy(update=changes)
    return Experiment(id=name, parent=parent, change="c", recipe=recipe, **{"dataset": "d1", **more})


def scores(right: int, n: int = 10, start: int = 0) -> dict[str, float]:
    """`n` items, of which `right` in a row are right, from item `start` on."""
    return {f"q{item}": float((item - start) % n < right) for item in range(n)}


STAGED = {
    "e1": trained("e1"),
    "e2": trained("e2", "e1", epochs=2, continues=True),
    "e3": trained("e3", "e1", dataset="d2"),
    "e4": trained("e4", "e1", learning_rate=2e-3),
    "e5": trained("e5", "e2", epochs=2, learning_rate=2e-3),
}


def test_parts_are_taken_away_from_the_first_stage_of_the_champions_training() -> None:
    assert reference_of("e2", STAGED) == "e1"
    assert reference_of("e5", STAGED) == "e5"
    assert makeup("e2", STAGED, DATASETS)["epochs"] == [1, 1]
    assert makeup("e5", STAGED, DATASETS)["epochs"] == [2]


def test_what_the_search_has_changed_comes_first_then_the_data_then_the_other_numbers() -> None:
    line = {"e1": trained("e1"), "e2": trained("e2", "e1", lora=Lora(r=32, alpha=64)), "e3": trained("e3", "e2")}
    best = trained("e4", "e2", lora=Lora(r=32, alpha=64), learning_rate=2e-3, epochs=2)
    found = leave_one_out(best, line | {"e4": best}, {"r": LIBRARY}, [BALANCE])
    assert [(variant.part, variant.change) for variant in found] == [
        ("lora", "with lora r32 → r16"),
        ("learning_rate", "with learning rate 0.002 → 0.001"),
        ("epochs", "with epochs 2 → 1"),
        ("balance_letters", "without letter balancing"),
        ("lr_scheduler", "with lr scheduler cosine → constant"),
        ("warmup_ratio", "with warmup ratio 0.03 → 0"),
    ]
    rewarded = GrpoRecipe(id="g", rewards=("exact_match", "format"), beta=0.04)
    alone = Experiment(id="e1", parent="baseline", change="c", recipe=rewarded, dataset="d1")
    parts = {variant.part: variant.numbers for variant in leave_one_out(alone, {"e1": alone}, {}, ())}
    assert parts["reward format"] == {"rewards": ["exact_match"]}
    assert parts["beta"] == {"beta": 0.0}


def test_what_an_experiment_has_tried_already_is_not_tried_again() -> None:
    every = leave_one_out(STAGED["e1"], STAGED, {}, [BALANCE])
    double = Variant(part="learning_rate", kind="number", change="c", numbers={"learning_rate": 2e-3})
    again = Variant(part="seed", kind="seed", change="c", seed=7)
    left = untried((*every, double, again), "e1", STAGED, DATASETS)
    assert BALANCE in every
    assert BALANCE not in left, "e3 is that"
    assert double not in left, "e4 is that"
    assert again in left
    assert again not in untried([again], "e1", STAGED | {"e6": trained("e6", "e1", seed=7)}, DATASETS)


def test_a_sweep_leaves_out_every_combination_and_seeds_follow_the_goals_own() -> None:
    lora = Variant(part="lora", kind="number", change="with lora r16 → r8", numbers={"lora": {"r": 8}})
    rate = Variant(part="learning_rate", kind="number", change="with half", numbers={"learning_rate": 5e-4})
    assert [variant.part for variant in factorial([lora, rate, BALANCE])] == [
        "lora × learning_rate", "lora × balance_letters", "learning_rate × balance_letters",
        "lora × learning_rate × balance_letters",
    ]  # fmt: skip
    (both,) = factorial([lora, BALANCE])
    assert (both.numbers, both.without) == ({"lora": {"r": 8}}, ("balance_letters",))
    for factors in ([lora], [lora] * 4, [lora, lora]):
        with pytest.raises(ValueError, match="factor"):
            factorial(factors)
    assert [variant.seed for variant in seeds(2, given=5)] == [6, 7]


def test_an_effect_is_two_trainings_that_differ_in_one_part_alone() -> None:
    measured = {"e1": scores(6), "e2": scores(9), "e3": scores(4), "e4": scores(6, start=1), "e5": scores(3)}
    found = {(effect.given, effect.other): effect for effect in table("e2", STAGED, DATASETS, measured).effects}
    assert set(found) == {("e2", "e1"), ("e1", "e3"), ("e1", "e4")}, "e5 differs from each in two things"

    stage, data, null = found["e2", "e1"], found["e1", "e3"], found["e1", "e4"]
    assert (stage.part, stage.kind, stage.change, stage.raised) == ("epochs", "stage", "1 + 1 → 1", True)
    assert stage.delta == pytest.approx(0.3)  # 3 of 10 items more
    # The differences are three ones and seven zeros: variance 10/9 · 0.3 · 0.7, over 10 items.
    assert stage.stderr == pytest.approx(math.sqrt(0.3 * 0.7 / 9))
    assert stage.p_value == pytest.approx(0.125)  # three wins, no loss: mid-p is 2 · 0.5 · 0.5³
    assert stage.ci_low <= 0.3 <= stage.ci_high
    assert (data.part, data.kind, data.change) == ("balance_letters", "data", "left out")
    assert data.delta == pytest.approx(0.2)
    assert (null.part, null.delta, null.raised) == ("learning_rate", 0.0, False), "a null result stays"
    assert null.p_holm == pytest.approx(1.0)
    assert stage.p_holm == pytest.approx(3 * 0.125)  # the smallest of three


def test_of_losses_a_part_that_helps_has_a_minus_and_is_a_gain() -> None:
    losses = {name: {f"q{n}": value + n / 100 for n in range(5)} for name, value in (("e1", 1.0), ("e3", 1.5))}
    (effect,) = table("e1", STAGED, DATASETS, losses, unit="nats", higher_is_better=False).effects
    assert effect.delta == pytest.approx(-0.5)
    assert effect.gain == pytest.approx(0.5)
    assert effect.matters


def test_effects_are_pulled_to_zero_by_what_their_noise_explains() -> None:
    def effect(delta: float, stderr: float) -> Effect:
        return Effect(
            part="p", kind="number", change="c", given="a", other="b", delta=delta, stderr=stderr, ci_low=-1, ci_high=1,
            p_value=1, p_holm=1, n=200, shrunken=0,
        )  # fmt: skip

    # Squares exceed errors by (0.09 - 0.01 + 0.01 - 0.01) / 2 = 0.04 on average: each gain keeps 0.04 / (0.04 + 0.01).
    assert [each.shrunken for each in shrunken([effect(0.3, 0.1), effect(-0.1, 0.1)])] == pytest.approx([0.24, -0.08])
    assert [each.shrunken for each in shrunken([effect(0.1, 0.1)])] == [0.0], "no larger than its error"
    # A deviation of 0.1 between seeds adds 2 · 0.01 to each error.
    assert shrunken([effect(0.3, 0.1)], deviation=0.1)[0].shrunken == pytest.approx(0.3 * 0.06 / 0.09)
    assert [shrunken([effect(delta, 0.001)])[0].matters for delta in (0.031, 0.029)] == [True, False]


def test_the_noise_is_that_of_other_seeds_and_no_effect() -> None:
    again = STAGED | {f"s{n}": trained(f"s{n}", "e1", seed=n) for n in (1, 2)}
    measured = {"e1": scores(6), "s1": scores(5), "s2": scores(7), "e3": scores(4)}
    found = table("e1", again, DATASETS, measured)
    assert [(effect.given, effect.other) for effect in found.effects] == [("e1", "e3")]
    assert found.noise is not None
    assert (found.noise.seeds, found.noise.scores) == ((0, 1, 2), (0.6, 0.5, 0.7))
    assert found.noise.deviation == pytest.approx(0.1)
    assert table("e1", STAGED, DATASETS, {"e1": scores(6), "e3": scores(4)}).noise is None


def test_two_parts_that_help_each_other_show_as_an_interaction() -> None:
    square = STAGED | {"e6": trained("e6", "e1", dataset="d2", learning_rate=2e-3)}
    measured = {"e1": scores(8), "e3": scores(4), "e4": scores(5), "e6": scores(4)}
    found = table("e1", square, DATASETS, measured)
    (interaction,) = found.interactions
    assert interaction.delta == pytest.approx((0.8 - 0.4) - (0.5 - 0.4))
    assert interaction.part == "balance_letters × learning_rate"
    assert len(found.effects) == 4, "each part with the other, and without it"
    assert {effect.p_holm for effect in (*found.effects, *found.interactions)} != {interaction.p_value}

    alone = table("e1", STAGED, DATASETS, {"e1": scores(8), "e3": scores(4)})
    both = joined([alone, found])
    assert (len(both.effects), len(both.interactions)) == (5, 1)
    assert max(effect.p_holm for effect in both.effects) >= max(effect.p_holm for effect in found.effects)


def test_scores_of_other_items_are_not_compared() -> None:
    assert table("e1", STAGED, DATASETS, {"e1": scores(6), "e3": scores(4, n=9)}).effects == ()
    assert table("e9", STAGED, DATASETS, {"e1": scores(6)}).effects == ()
