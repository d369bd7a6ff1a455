"""Plans: the batch is split exactly, and the cheapest hardware that fits and ends in time is taken."""

from __future__ import annotations

from typing import Any

import pytest

from agents.base_model import BaseModel
from agents.jobs.flavors import Flavor, listed_flavors
from agents.trainer.planner import Data, Known, Limits, TrainingPlan, data_of, plan_training, updates_of
from agents.trainer.shape import shape_of
from agents.trainer.throughput import flop_per_token
from benchmarks.data.shapes import SHAPES
from shared_memory.errors import BadInput
from shared_memory.recipes import recipe_of

HF = listed_flavors()
HERE = Flavor(name="cpu", cpu_cores=2, ram_gib=16)


def model(name: str = "Llama-3.1-8B", **changes: Any) -> BaseModel:
    config = {**SHAPES[name], **changes}
    return BaseModel(
        name=name, folder="/m", parameters=shape_of(SHAPES[name]).parameters, architecture="", config=config
    )


def plan(
    *flavors: str | Flavor, shape: str = "Llama-3.1-8B", recipe: dict[str, Any] | None = None, **more: Any
) -> TrainingPlan:
    numbers = {"id": "r", "batch": 32, "micro_batch": 8, "max_length": 2048, **(recipe or {})}
    chosen = [HF.named(one) if isinstance(one, str) else one for one in flavors] or list(HF.flavors)
    return plan_training(model(shape), recipe_of(numbers), flavors=chosen, **more)


@pytest.mark.parametrize("flavor", [flavor.name for flavor in HF.flavors if flavor.gpus])
def test_the_effective_batch_is_exact_on_every_flavor(flavor: str) -> None:
    best = plan(flavor).best
    assert best.micro_batch * best.accumulation * best.devices == 32
    if not best.why_not:
        assert best.memory.peak <= 0.9 * best.flavor.vram_gib


def test_fewer_rows_at_once_come_before_checkpointing() -> None:
    roomy, tight, tighter = (plan(name, recipe={"max_length": 1024}).best for name in ("h200", "l40sx1", "l4x1"))
    assert (roomy.micro_batch, roomy.activation_checkpointing) == (8, False)
    assert (tight.micro_batch, tight.activation_checkpointing) == (2, False)
    assert tighter.activation_checkpointing
    assert tighter.micro_batch > tight.micro_batch


def test_the_recipe_keeps_its_mathematics() -> None:
    planned = plan("l4x1")
    before = recipe_of({"id": "r", "batch": 32, "micro_batch": 8, "max_length": 2048})
    assert planned.recipe.model_copy(update={"micro_batch": 8}) == before
    assert planned.config == {"micro_batch": planned.best.micro_batch, "activation_checkpointing": True}


def test_a_batch_that_not_all_devices_can_share_takes_fewer_of_them() -> None:
    best = plan("l40sx8", recipe={"batch": 6, "micro_batch": 3}).best
    assert (best.devices, best.micro_batch * best.accumulation) == (6, 1)


def test_an_update_has_two_micro_batches_at_least_and_a_processor_few_rows_at_once() -> None:
    small = {"batch": 8, "micro_batch": 8, "max_length": 256}
    assert plan("h200", recipe=small).best.micro_batch == 4
    assert plan("h200", recipe={**small, "packing": True}).best.micro_batch == 8
    assert plan("h200", recipe={**small, "method": "grpo", "max_completion_length": 64}).best.micro_batch == 8
    assert plan(HERE, shape="SmolLM2-135M", recipe={**small, "batch": 32}).best.micro_batch == 4


def test_kto_keeps_two_rows_side_by_side() -> None:
    assert plan("t4-small", recipe={"method": "kto"}).best.micro_batch == 2
    few = plan("l40sx8", recipe={"method": "kto", "batch": 8, "micro_batch": 2}).best
    assert (few.devices, few.micro_batch, few.accumulation) == (4, 2, 1), "on each of the devices"


def test_the_cheapest_flavor_that_fits_is_taken_and_the_others_say_why_not() -> None:
    planned = plan(data=Data(tokens=5_000_000))

    fits = [planned.best, *planned.alternatives]
    assert len(fits) == len(HF.flavors)
    assert planned.best.usd_micro == min(fit.usd_micro for fit in fits if not fit.why_not)
    why = {fit.flavor.name: fit.why_not for fit in planned.alternatives}
    assert why["cpu-basic"].startswith("it does not fit: about")
    assert why["t4-small"].startswith("it does not fit")
    assert plan("t4-small", shape="SmolLM2-135M", recipe={"max_length": 512}).best.why_not == (
        "a T4 has no bfloat16, which the recipe's precision `mixed` needs"
    )
    nf4 = plan(Flavor(name="cpu", cpu_cores=64, ram_gib=900), recipe={"lora": {"base": "nf4"}})
    assert nf4.warnings[0] == "a base in four bits needs a GPU"


def test_a_dearer_flavor_is_taken_where_the_cheaper_ones_end_too_late() -> None:
    data = Data(tokens=50_000_000)
    slow = plan(data=data)
    quick = plan(data=data, limits=Limits(hours=slow.best.hours / 4))

    assert quick.best.hours <= slow.best.hours / 4
    assert quick.best.usd_micro > slow.best.usd_micro
    late = next(fit for fit in quick.alternatives if fit.flavor == slow.best.flavor)
    assert late.why_not.startswith("it would take")
    poor = plan(data=data, limits=Limits(usd=0.01))
    assert "it would cost $" in poor.warnings[0]


def test_where_nothing_fits_the_plan_says_what_is_lacking() -> None:
    planned = plan(Flavor(name="cpu", cpu_cores=2, ram_gib=4))

    assert "does not fit" in planned.best.why_not
    assert "4.0 GiB" in planned.warnings[0]
    assert (planned.best.micro_batch, planned.best.activation_checkpointing) == (1, True)
    with pytest.raises(BadInput, match="no hardware to plan for"):
        plan_training(model(), recipe_of({"id": "r"}), flavors=[])


def test_memory_that_nobody_tells_is_said_not_to_be_known() -> None:
    planned = plan(Flavor(name="batch", gpu="a30", gpus=1))
    assert not planned.best.why_not
    assert planned.warnings[0].startswith("nobody says how much memory batch has")


def test_a_model_that_cannot_be_counted_is_planned_by_its_weights() -> None:
    unknown = model().model_copy(update={"config": {"model_type": "gpt2", "n_embd": 768}})
    planned = plan_training(unknown, recipe_of({"id": "r"}), flavors=[HF.named("h200")])
    assert planned.warnings[0].startswith("memory and time are those of a Llama of 8,030 M weights: config.json has no")
    assert planned.best.memory.weights == pytest.approx(2 * 8.03e9 / 2**30, rel=0.02)
    with pytest.raises(BadInput, match="no number"):
        plan_training(unknown.model_copy(update={"parameters": 0}), recipe_of({"id": "r"}), flavors=[HERE])


@pytest.mark.parametrize(
    ("hours", "known", "limits", "pilot", "seconds"),
    [
        (4.0, Known(tokens_per_second=1000), Limits(), False, 4 * 3600 * 1.5 + 900),
        (0.1, Known(tokens_per_second=1000), Limits(), False, 0.1 * 3600 * 1.5 + 900),
        (0.1, Known(), Limits(), False, 7200),
        (0.1, Known(), Limits(usd=1.0), False, None),
        (4.0, Known(), Limits(), True, 1800),
    ],
)
def test_a_time_out_leaves_room_for_errors_of_the_prediction(
    hours: float, known: Known, limits: Limits, pilot: bool, seconds: float | None
) -> None:
    rate = known.tokens_per_second or plan("a100-large", data=Data(tokens=1)).best.rate.tokens_per_second
    data = Data(tokens=round((hours * 3600 - 60) * rate))

    planned = plan("a100-large", data=data, known=known, limits=limits, pilot=pilot)

    expected = seconds if seconds is not None else 1.5 * 3600 * planned.best.hours + 900
    assert planned.timeout_seconds == pytest.approx(expected, abs=3)
    assert planned.estimate.usd_micro == planned.best.flavor.usd_micro(planned.timeout_seconds / 3600)


def test_a_measured_rate_is_believed_on_the_flavor_that_it_was_measured_on() -> None:
    known = Known(tokens_per_second=123.0, measured_on="h200")
    planned = plan("h200", "a100-large", known=known)
    rates = {fit.flavor.name: fit.rate for fit in (planned.best, *planned.alternatives)}
    assert (rates["h200"].tokens_per_second, rates["h200"].calibrated) == (123.0, True)
    assert not rates["a100-large"].calibrated
    here = plan(HERE, shape="SmolLM2-135M", data=Data(tokens=1000), known=Known(gflops=200.0))
    assert "of the 200 GFLOP/s measured here" in here.warnings[0]


def test_arithmetic_grows_with_what_is_trained_and_computed_again() -> None:
    shape = shape_of(SHAPES["Llama-3.1-8B"])

    def flop(length: float = 1024, checkpointing: bool = False, **recipe: Any) -> float:
        return flop_per_token(shape, recipe_of({"id": "r", **recipe}), length, checkpointing=checkpointing)

    assert flop(lora=None) == pytest.approx(6 * 8.03e9, rel=0.05)
    assert flop() == pytest.approx(4 * 8.03e9, rel=0.05)
    assert flop(checkpointing=True) > 1.4 * flop()
    assert flop(method="dpo") > flop(checkpointing=True)
    assert flop(length=32768) > 1.3 * flop()


def test_methods_that_sample_write_before_they_learn() -> None:
    recipe = {"method": "grpo", "num_generations": 8, "max_completion_length": 512, "batch": 32}
    data = Data(tokens=100_000, rows=1000)
    grpo, sft = (plan("h200", recipe=numbers, data=data).best for numbers in (recipe, {}))
    assert grpo.hours - sft.hours > 250 * 512 * 0.03 / 3600


def test_a_student_that_writes_itself_takes_the_time_to_write() -> None:
    recipe = {"method": "distill", "teacher": "t", "max_completion_length": 512, "batch": 16}
    data = Data(tokens=160_000, rows=1600)
    given, half = (plan("h200", recipe=recipe | {"on_policy": share}, data=data).best for share in (0.0, 0.5))
    assert half.hours - given.hours == pytest.approx(50 * 512 * 0.03 / 3600, rel=0.01)


def test_updates_are_counted_in_what_a_batch_holds() -> None:
    def updates(**recipe: Any) -> int:
        numbers = {"id": "r", "batch": 16, "max_length": 1000, **recipe}
        return updates_of(recipe_of(numbers), Data(tokens=160_000, rows=1600), 2)

    assert updates() == 200
    assert updates(packing=True) == 20
    assert updates(method="grpo", num_generations=8) == 1600


def test_lengths_of_rows_tell_tokens_after_cutting() -> None:
    data = data_of([100, 300, 5000], 1000)
    assert (data.tokens, data.rows, data.longest) == (1400, 3, 1000)
    short = plan("l4x1", data=data_of([64] * 100, 2048)).best
    assert (short.micro_batch, short.activation_checkpointing) == (8, False)
