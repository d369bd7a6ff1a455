"""A model's architecture with two tiny layers: every part of the real one is there, and a step takes milliseconds."""

from __future__ import annotations

import copy
from typing import Any

LAYERS = 2
HEAD = 16
"""Channels of an attention head: even, for rotary embeddings, and divisible by 4, for sections of them."""
EXPERTS = 4
INITIAL = 0.1
"""Standard deviation of the random weights: five times the usual one, so that what a row's neighbour does shows."""


def shrunken(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json of the same architecture and vocabulary, with LAYERS layers of each part.

    Ratios that decide which code runs are kept: query heads to key heads, one layer of each kind of attention, ties.
    Raises ValueError for an architecture whose sizes have other names.
    """
    small = copy.deepcopy(config)
    for part in ("text_config", "vision_config", "audio_config"):
        if isinstance(small.get(part), dict):
            small[part] = _shrunken_part(small[part])
    if not isinstance(config.get("text_config"), dict):
        small = _shrunken_part(small)
    for key in ("dtype", "torch_dtype"):
        if key in small:
            small[key] = "float32"
    small.pop("quantization_config", None)
    return small


def _shrunken_part(config: dict[str, Any]) -> dict[str, Any]:
    missing = [key for key in ("hidden_size", "num_hidden_layers", "num_attention_heads") if key not in config]
    if missing and "vocab_size" in config:
        raise ValueError(f"its config.json has no {missing[0]}")
    heads, kv = int(config.get("num_attention_heads", 1)), int(config.get("num_key_value_heads") or 0)
    ratio = heads // kv if kv else 1
    kept_kv = 2 if kv > 1 or (not kv and heads > 1) else 1
    small = config | {
        "num_hidden_layers": LAYERS,
        "num_attention_heads": ratio * kept_kv,
        "hidden_size": ratio * kept_kv * HEAD,
        "initializer_range": INITIAL,
    }
    if kv:
        small["num_key_value_heads"] = kept_kv
    if config.get("head_dim") is not None:
        small["head_dim"] = HEAD
    for key, value in {
        "intermediate_size": 2 * small["hidden_size"], "ffn_hidden_size": 2 * small["hidden_size"],
        "moe_intermediate_size": HEAD, "shared_expert_intermediate_size": HEAD, "num_experts": EXPERTS,
        "num_local_experts": EXPERTS, "n_routed_experts": EXPERTS, "num_experts_per_tok": 2,
        "max_window_layers": LAYERS, "query_pre_attn_scalar": HEAD, "hidden_size_per_layer_input": HEAD,
        "num_kv_shared_layers": 0,
    }.items():  # fmt: skip
        if config.get(key) is not None:
            small[key] = value
    for key in ("layer_types", "no_rope_layers", "mlp_layer_types"):
        if isinstance(config.get(key), list):
            small[key] = _one_of_each(config[key])
    for key in ("rope_scaling", "rope_parameters"):
        small |= {key: _short_factors(config[key])} if isinstance(config.get(key), dict) else {}
    return small


def _one_of_each(kinds: list[Any]) -> list[Any]:
    """LAYERS entries with as many kinds among them as there is room for, in their order."""
    distinct = list(dict.fromkeys(kinds))[:LAYERS]
    return (distinct * LAYERS)[:LAYERS]


def _short_factors(rope: dict[str, Any]) -> dict[str, Any]:
    """Per-channel factors cut to half a head; settings by kind of attention are dicts in the dict."""
    cut: dict[str, Any] = {}
    for key, value in rope.items():
        if isinstance(value, dict):
            cut[key] = _short_factors(value)
        elif key in ("short_factor", "long_factor") and isinstance(value, list):
            cut[key] = value[: HEAD // 2]
        elif key == "mrope_section":
            cut[key] = [HEAD // 8, HEAD // 8, HEAD // 4]
        else:
            cut[key] = value
    return cut
