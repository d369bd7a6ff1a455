"""What a job will take in memory and time, before it runs."""

from __future__ import annotations

import time

import numpy as np

from agents.base_model import BaseModel
from shared_memory.errors import BadInput
from shared_memory.records import Estimate, Lora, Recipe, Record

GIB = 1024**3
CHARACTERS_PER_TOKEN = 3.5
"""Of English text under today's vocabularies; on the low side, so that lengths come out on the high side."""
RUNTIME_GIB = 0.9
"""Python, torch, transformers and TRL themselves, as measured on a CPU after import."""
CPU_EFFICIENCY = 0.4
"""Share of the matrix rate that a training step on a CPU reaches."""
UNCALIBRATED_TIMEOUT_SECONDS = 2 * 3600


def training_estimate(
    model: BaseModel, recipe: Recipe, tokens: int, epochs: int, measured: float | None, gflops: float
) -> Estimate:
    """Time and memory of training on `tokens` tokens for `epochs` passes.

    `measured` is the tokens per second of an earlier job of this run on the same model, where there was one; without
    it the time is 4 (LoRA) or 6 (all weights) FLOP per parameter and token [Kaplan et al. 2020, arXiv 2001.08361; the
    frozen weights' own gradients, 2 FLOP, fall away] over `gflops`, the rate at which this machine multiplies matrices.
    """
    if measured:
        rate, basis = measured, f"{measured:.0f} tokens/s as measured on an earlier job of this run"
    else:
        flop = (4 if recipe.lora else 6) * model.parameters
        rate = CPU_EFFICIENCY * gflops * 1e9 / flop
        basis = f"{flop / 1e9:.2g} GFLOP a token at {CPU_EFFICIENCY:.0%} of the {gflops:.0f} GFLOP/s measured here"
    return Estimate(
        hours=round(tokens * epochs / rate / 3600, 4),
        usd_micro=0,
        memory_gib=round(training_memory(model, recipe).peak, 2),
        basis=basis,
    )


class Memory(Record):
    """What one device holds at the peak of training, in GiB."""

    weights: float
    """The model's in float32, the adapter's, and those of DPO's reference where that is a model of its own."""
    gradients: float
    optimizer: float
    """AdamW's two moments."""
    activations: float
    overhead: float
    """Python and the libraries."""

    @property
    def peak(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.overhead


def training_memory(model: BaseModel, recipe: Recipe) -> Memory:
    """Peak memory of one device: four bytes for each weight, gradient and moment, and the activations.

    Activations are 34 bytes × hidden size × layers a token [Korthikanti et al. 2022, arXiv 2205.05198, without the
    attention matrix, which SDPA does not keep], for `micro_batch` rows of a quarter of `max_length`, the usual fill.
    A row of DPO is two sequences.
    """
    config = model.config
    hidden, layers = int(config.get("hidden_size", 1024)), int(config.get("num_hidden_layers", 24))
    dpo = recipe.method == "dpo"
    if recipe.lora is None:
        trained, held = model.parameters, model.parameters * (2 if dpo else 1)
    else:
        trained = lora_parameters(config, recipe.lora)
        held = model.parameters + trained
    tokens = recipe.micro_batch * recipe.max_length / 4 * (2 if dpo else 1)
    return Memory(
        weights=4 * held / GIB,
        gradients=4 * trained / GIB,
        optimizer=8 * trained / GIB,
        activations=34 * hidden * layers * tokens / GIB,
        overhead=RUNTIME_GIB,
    )


def dense_parameters(config: dict[str, object]) -> int:
    """Weights of a Llama-like model, biases aside, from its config.json alone.

    Raises BadInput where the config is of another kind (experts, or sizes under other names).
    """

    def number(key: str, default: int | None = None) -> int:
        value = default if config.get(key) is None else config[key]
        if not isinstance(value, int):
            raise BadInput(
                f"config.json has no number `{key}`, so the weights cannot be counted; "
                "give a folder that holds the safetensors files"
            )
        return value

    if any(key in config for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise BadInput("a mixture of experts cannot be counted from its config.json; give a folder with its weights")
    hidden, heads = number("hidden_size"), number("num_attention_heads")
    head_size = number("head_dim", hidden // heads)
    attention = 2 * hidden * head_size * (heads + number("num_key_value_heads", heads))
    block = attention + 3 * hidden * number("intermediate_size") + 2 * hidden
    embeddings = number("vocab_size") * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return embeddings + number("num_hidden_layers") * block + hidden


def lora_parameters(config: dict[str, object], lora: Lora) -> int:
    """Parameters of an adapter on the seven linear layers of a Llama-like block: r × (inputs + outputs) each."""

    def number(key: str, default: int) -> int:
        value = config.get(key)
        return value if isinstance(value, int) else default

    hidden, layers = number("hidden_size", 1024), number("num_hidden_layers", 24)
    heads = number("num_attention_heads", 16)
    head_size = number("head_dim", hidden // heads)
    queries = heads * head_size
    keys = number("num_key_value_heads", heads) * head_size
    inner = number("intermediate_size", 4 * hidden)
    return lora.r * layers * (2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner))


def timeout_seconds(estimate: Estimate, calibrated: bool) -> int:
    """1.5 × the predicted time plus 15 minutes; at least two hours where no measurement stands behind it."""
    seconds = int(1.5 * estimate.hours * 3600) + 15 * 60
    return seconds if calibrated else max(seconds, UNCALIBRATED_TIMEOUT_SECONDS)


def matrix_gflops() -> float:
    """fp32 GFLOP/s of this machine's processor, by the best of three products of 1024 × 1024 matrices (~50 ms)."""
    size = 1024
    a, b = np.ones((size, size), dtype=np.float32), np.full((size, size), 0.5, dtype=np.float32)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9
