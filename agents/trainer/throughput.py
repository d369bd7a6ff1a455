"""How long a training takes: the arithmetic of a token, over what the hardware reaches of its peak."""

from __future__ import annotations

import time

from agents.jobs.flavors import Flavor, tflops_of
from agents.trainer.activations import arithmetic_of
from agents.trainer.shape import Shape
from shared_memory.recipes import DistillRecipe, GrpoRecipe, RlooRecipe
from shared_memory.records import Recipe, Record

CHARACTERS_PER_TOKEN = 3.5
"""Of English text under today's vocabularies; on the low side, so that lengths come out on the high side."""
USUAL_FILL = 0.25
"""Share of a recipe's `max_length` that a row has, where nothing better is known."""
CPU_EFFICIENCY = 0.4
"""Share of the matrix rate that a training step on a CPU reaches."""
GPU_EFFICIENCY = 0.3
"""Share of the data sheet's bf16 rate. LLM Foundry's benchmarks reach .35 to .46 on an H100 with models of 760M to 7B
and 2,048 tokens [mosaicml/llm-foundry, scripts/train/benchmarking/README.md]; this is less, for TRL on SDPA with short
rows, and uncalibrated until a job has measured it."""
UNKNOWN_TFLOPS = 60.0
"""Of a GPU that no table has: about an A10G's, so that an unknown one is not overrated."""
PARALLEL_EFFICIENCY = 0.9
"""Of one GPU's rate that each of several keeps while they exchange gradients."""
FLOAT32_SLOWER = 8.0
"""Times: torch leaves the tensor cores out of float32 by default; an A100 has 19.5 TFLOP/s without, 312 in bf16."""
CORE_GFLOPS = 40.0
"""fp32 rate of one core of a machine that is not at hand: a server core with AVX2 at 2.5 GHz."""
COMPARED = {"dpo": 1, "kto": 3, "distill": 1}
"""Method → forward passes without a gradient: the reference's or the teacher's; of KTO two more, by model and reference
on the pairs that its KL divergence is estimated from."""
DECODING_SECONDS = 0.03
"""One token of a generation on a GPU, whatever the batch: transformers' loop is bound by its launches."""


class Rate(Record):
    """How fast a recipe trains on a flavor."""

    tokens_per_second: float
    """Useful ones, of all devices together."""
    calibrated: bool
    """Whether a job has measured it."""
    basis: str
    """Where it comes from, in words a person can judge."""


def flop_per_token(shape: Shape, recipe: Recipe, length: float, *, checkpointing: bool = False) -> float:
    """Floating point operations of a trained token in a row of `length` tokens.

    2 a weight for the forward pass, as many for the gradients of its inputs, and again for those of trained weights
    [Kaplan et al. 2020, arXiv 2001.08361], a forward pass more with checkpointing; the LM head computes its
    logits twice; attention 2 × 2 × queries a token that is seen, half of them under the causal mask. A reference or a
    teacher adds forward passes, as if it had the model's size.
    """
    passes = 3 if recipe.lora is None else 2
    blocks = 2.0 * shape.active_linear * shape.layers
    packed = recipe.method == "sft" and recipe.packing
    seen = recipe.max_length if packed else length
    attention = 2.0 * shape.queries * seen * shape.layers
    head = 0.0 if recipe.method == "reward" else 2.0 * shape.embeddings
    compared = COMPARED.get(recipe.method, int(getattr(recipe, "beta", 0) > 0))
    forward = checkpointing + compared
    return (passes + forward) * blocks + (3 + forward) * attention + (passes + 1 + compared) * head


def rate_of(
    shape: Shape,
    recipe: Recipe,
    flavor: Flavor,
    *,
    length: float,
    devices: int = 1,
    checkpointing: bool = False,
    gflops: float = 0.0,
    measured: float | None = None,
) -> Rate:
    """Tokens a second on a flavor. measured: what a job of the same kind reached on it. gflops: of this processor."""
    if measured:
        return Rate(
            tokens_per_second=measured,
            calibrated=True,
            basis=f"{measured:,.0f} tokens/s as measured on an earlier job of this run",
        )
    flop = flop_per_token(shape, recipe, length, checkpointing=checkpointing)
    if not flavor.gpus:
        speed = gflops or CORE_GFLOPS * max(1, flavor.cpu_cores)
        how = "measured here" if gflops else f"of {max(1, flavor.cpu_cores)} cores"
        rate = CPU_EFFICIENCY * speed * 1e9 / flop
        basis = f"{flop / 1e9:.2g} GFLOP a token at {CPU_EFFICIENCY:.0%} of the {speed:,.0f} GFLOP/s {how}"
        return Rate(tokens_per_second=rate, calibrated=False, basis=basis)
    peak = tflops_of(flavor.gpu) or UNKNOWN_TFLOPS
    if arithmetic_of(recipe, "gpu", flavor.bf16).math == 4:
        peak /= FLOAT32_SLOWER
    scale = devices * (PARALLEL_EFFICIENCY if devices > 1 else 1.0)
    basis = f"{flop / 1e9:.2g} GFLOP a token at {GPU_EFFICIENCY:.0%} of {peak:.0f} TFLOP/s"
    return Rate(
        tokens_per_second=scale * GPU_EFFICIENCY * peak * 1e12 / flop,
        calibrated=False,
        basis=f"{basis} on each of {devices} GPUs" if devices > 1 else basis,
    )


def sampling_seconds(shape: Shape, recipe: Recipe, flavor: Flavor, updates: int, gflops: float, devices: int) -> float:
    """Of writing the completions of so many weight updates, where the method samples.

    A GPU takes one step a token for all completions at once; a processor is bound by arithmetic, 2 FLOP a weight.
    """
    if not isinstance(recipe, GrpoRecipe | RlooRecipe | DistillRecipe):
        return 0.0
    updates = round(updates * recipe.on_policy) if isinstance(recipe, DistillRecipe) else updates
    if flavor.gpus:
        return updates * recipe.max_completion_length * DECODING_SECONDS
    speed = CPU_EFFICIENCY * (gflops or CORE_GFLOPS * max(1, flavor.cpu_cores)) * 1e9
    written = recipe.batch * recipe.max_completion_length / devices
    return updates * written * 2 * (shape.active_linear * shape.layers + shape.embeddings) / speed


def matrix_gflops() -> float:
    """fp32 GFLOP/s of this machine's processor, by the best of three products of 1024 × 1024 matrices (~50 ms)."""
    import numpy as np  # takes longer than a plan without it

    size = 1024
    a, b = np.ones((size, size), dtype=np.float32), np.full((size, size), 0.5, dtype=np.float32)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9
