"""Weights counted from a config.json alone, against what transformers builds from the same config."""

from __future__ import annotations

from typing import Any

import pytest

from agents.trainer.shape import shape_of, usual_shape
from benchmarks.data.shapes import SHAPES
from shared_memory.errors import BadInput

COUNTED = {
    "SmolLM2-135M": 134_515_008, "SmolLM2-360M": 361_821_120, "Qwen2.5-0.5B": 494_032_768,
    "Qwen3-0.6B": 596_049_920, "gemma-3-1b": 999_885_952, "Llama-3.2-1B": 1_235_814_400, "Qwen3-1.7B": 1_720_574_976,
    "SmolLM3-3B": 3_075_098_624, "Llama-3.2-3B": 3_212_749_824, "Phi-4-mini": 3_836_021_760,
    "gemma-3-4b": 4_300_079_472, "Qwen3-4B": 4_022_468_096, "Mistral-7B": 7_248_023_552,
    "Qwen2.5-7B": 7_615_616_512, "Llama-3.1-8B": 8_030_261_248, "Qwen3-8B": 8_190_735_360,
}  # fmt: skip
"""Elements of the parameters of AutoModelForCausalLM.from_config."""
EXPERTS = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_weight_is_counted(name: str) -> None:
    assert shape_of(SHAPES[name]).parameters == COUNTED[name]


def test_experts_are_counted_where_the_config_tells_them() -> None:
    mixtral = shape_of({**EXPERTS, "model_type": "mixtral"})
    assert mixtral.parameters == 46_702_792_704
    passed = mixtral.layers * mixtral.active_linear + 2 * mixtral.embeddings
    assert passed == pytest.approx(12.9e9, rel=0.01)
    qwen: dict[str, Any] = {
        "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "vocab_size": 151936, "num_experts": 128, "num_experts_per_tok": 8,
    }  # fmt: skip
    assert shape_of(qwen).parameters == 30_532_122_624
    with pytest.raises(BadInput, match="mixture of experts of the kind `qwen3_moe`"):
        shape_of({**qwen, "mlp_only_layers": [0]})


@pytest.mark.parametrize("kind", ["deepseek_v3", "gpt_oss", "", "llama"])
def test_experts_of_an_unknown_kind_are_refused(kind: str) -> None:
    with pytest.raises(BadInput, match=r"cannot be counted from its config\.json; plan one of mixtral"):
        shape_of({**EXPERTS, "model_type": kind})


def test_sizes_under_other_names_are_refused() -> None:
    with pytest.raises(BadInput, match="no number `hidden_size`"):
        shape_of({"n_embd": 768, "n_layer": 12})


def test_what_a_config_leaves_out_is_as_in_transformers() -> None:
    bare = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "model_type": "gemma3_text"}
    shape = shape_of({"model_type": "gemma3", "text_config": bare})
    assert (shape.words, shape.heads, shape.keys, shape.head, shape.tied) == (262208, 8, 4, 256, True)
    assert (shape.window, shape.windowed, shape.norms, shape.normed_heads) == (4096, 29, 4, True)
    assert not shape_of({**SHAPES["Llama-3.1-8B"], "tie_word_embeddings": None}).tied


def test_layers_with_a_window_are_counted_by_their_kinds() -> None:
    kinds = ["sliding_attention", "full_attention"]
    config = {**SHAPES["Qwen3-0.6B"], "sliding_window": 512, "layer_types": kinds * 14}
    assert (shape_of(config).window, shape_of(config).windowed) == (512, 14)
    assert shape_of({**config, "use_sliding_window": False}).windowed == 0


@pytest.mark.parametrize("parameters", [135e6, 1.2e9, 8e9, 70e9])
def test_a_usual_shape_has_about_the_weights_asked_for(parameters: float) -> None:
    assert usual_shape(int(parameters)).parameters == pytest.approx(parameters, rel=0.35)
