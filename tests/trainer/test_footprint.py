"""Predicted memory: what the parts are, how they scale, and that a real step holds as much."""

from __future__ import annotations

from typing import Any

import pytest

from agents.trainer.footprint import GIB, Memory, Setup, lora_parameters, training_memory
from agents.trainer.shape import shape_of
from benchmarks.data.shapes import SHAPES
from benchmarks.memory import Configuration, errors, measured
from shared_memory.recipes import recipe_of

LLAMA, QWEN = shape_of(SHAPES["Llama-3.1-8B"]), shape_of(SHAPES["Qwen3-0.6B"])
FULL: dict[str, Any] = {"lora": None, "max_length": 128, "batch": 16}


def memory(shape: Any = LLAMA, setup: dict[str, Any] | None = None, **recipe: Any) -> Memory:
    return training_memory(shape, recipe_of({"id": "r", **recipe}), Setup(**(setup or {})))


def bytes_a_weight(gib: float, shape: Any = LLAMA) -> float:
    return gib * GIB / shape.parameters


def test_all_weights_take_eighteen_bytes_each_in_mixed_precision() -> None:
    held = memory(**FULL)

    assert bytes_a_weight(held.weights) == pytest.approx(2, rel=0.15)
    assert bytes_a_weight(held.master) == pytest.approx(4)
    assert bytes_a_weight(held.gradients) == pytest.approx(4)
    assert bytes_a_weight(held.optimizer) == pytest.approx(8)
    assert held.peak == pytest.approx(sum(gib for gib in held.plain().values()))
    assert held.parts()["peak"] == pytest.approx(held.peak, abs=0.001)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({**FULL, "precision": "bfloat16"}, (2, 0, 2, 4)),
        ({**FULL, "precision": "float32"}, (0, 4, 4, 8)),
        ({"lora": {"r": 8}, "max_length": 128}, (2, 0, 0, 0)),
        ({"lora": {"r": 8, "base": "nf4"}, "max_length": 128}, (0.73, 0, 0, 0)),
    ],
)
def test_precision_and_adapter_decide_what_a_weight_takes(recipe: dict[str, Any], expected: tuple[float, ...]) -> None:
    held = memory(**recipe)

    parts = (held.weights, held.master, held.gradients, held.optimizer)
    for gib, each in zip(parts, expected, strict=True):
        assert bytes_a_weight(gib) == pytest.approx(each, abs=0.06)


def test_the_logits_of_a_batch_are_never_held() -> None:
    rows, length = 8, 4096
    logits = rows * length * QWEN.words * 4 / GIB

    held = memory(QWEN, {"micro_batch": rows}, lora={"r": 16}, max_length=length, micro_batch=rows)

    assert held.logits < logits / 20


def test_checkpointing_keeps_a_block_instead_of_all() -> None:
    recipe = {"max_length": 2048, "lora": {"r": 16}}
    without, with_it = memory(**recipe), memory(setup={"activation_checkpointing": True}, **recipe)
    assert with_it.activations < without.activations / 8
    assert with_it.master == without.master


def test_activations_grow_with_rows_and_masks_with_the_square_of_their_length() -> None:
    one, two, four = (memory(setup={"micro_batch": rows}, lora={"r": 16}).activations for rows in (1, 2, 4))
    assert four == pytest.approx(2 * two, rel=0.02)
    assert two > 2 * one, "rows of several lengths need a mask"
    short, long = (memory(setup={"micro_batch": 2}, lora={"r": 16}, max_length=n).activations for n in (4096, 8192))
    assert long > 2.05 * short


def test_a_pair_is_two_sequences_and_a_reference_is_a_model() -> None:
    plain = {**FULL, "precision": "float32"}
    sft, dpo = memory(**plain), memory(method="dpo", **plain)
    assert dpo.weights - sft.weights == pytest.approx(4 * LLAMA.parameters / GIB, rel=0.01)
    two = memory(setup={"micro_batch": 2}, lora={"r": 8}, max_length=512)
    adapter = memory(method="dpo", lora={"r": 8}, max_length=512)
    assert adapter.activations == pytest.approx(two.activations)
    assert adapter.weights == pytest.approx(two.weights), "an adapter that is switched off is the reference"


def test_a_reward_model_has_no_vocabulary_to_score() -> None:
    short = {"lora": {"r": 8}, "max_length": 64}
    assert memory(QWEN, method="reward", **short).logits == 0
    assert memory(QWEN, method="dpo", **short).logits > 0


def test_a_teacher_is_held_beside_the_model() -> None:
    recipe = recipe_of({"id": "r", "method": "distill", "teacher": "t", "max_length": 128})
    small = training_memory(QWEN, recipe, Setup(), teacher=LLAMA.parameters)
    same = training_memory(QWEN, recipe, Setup())
    assert small.weights - same.weights == pytest.approx(2 * (LLAMA.parameters - QWEN.parameters) / GIB, rel=0.01)


def test_sampling_holds_keys_and_values_where_that_is_the_peak() -> None:
    recipe = {"method": "grpo", "batch": 512, "num_generations": 8, "max_length": 4096, "max_completion_length": 2048}
    few, many = (memory(setup={"accumulation": n, "activation_checkpointing": True}, **recipe) for n in (4, 512))
    cache = 512 * 4096 * LLAMA.layers * LLAMA.values * 4 / GIB
    assert many.activations == pytest.approx(cache)
    assert few.activations < cache / 10


def test_devices_copy_what_they_hold() -> None:
    alone = memory(**FULL)
    copied = memory(setup={"devices": 4}, **FULL)
    assert copied.gradients == pytest.approx(2 * alone.gradients), "DistributedDataParallel exchanges copies"
    assert copied.optimizer == pytest.approx(alone.optimizer)
    assert (copied.weights, copied.master) == (alone.weights, alone.master)


def test_an_adapter_has_rank_times_inputs_and_outputs() -> None:
    assert lora_parameters(LLAMA, 16) == 41_943_040  # as peft counts them
    assert lora_parameters(shape_of(SHAPES["Phi-4-mini"]), 16) == 16 * 32 * (
        3072 + 5120 + 3072 + 3072 + 3072 + 16384 + 8192 + 3072
    )


@pytest.mark.slow
def test_a_real_step_holds_what_was_predicted() -> None:
    configurations = [
        Configuration("SmolLM2-135M", 0, 512, 2, True),
        Configuration("SmolLM2-135M", 16, 1024, 1, False),
        Configuration("Qwen3-0.6B", 16, 256, 2, False, {"method": "dpo"}),
        Configuration("SmolLM2-360M", 16, 512, 1, False, {"packing": True}),
    ]
    rows = list(measured(configurations))
    assert len(rows) == 4
    assert errors(rows, "all")["p95"] < 0.05, rows
