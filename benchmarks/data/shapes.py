"""Shapes of models that people post-train: their config.json, as far as memory depends on it."""

from __future__ import annotations

from typing import Any


def _dense(kind: str, architecture: str, sizes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    hidden, inner, layers, heads, keys, words = sizes
    return {
        "model_type": kind, "architectures": [architecture], "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": keys, "vocab_size": words,
        **more,
    }  # fmt: skip


def _llama(*sizes: int, **more: Any) -> dict[str, Any]:
    return _dense("llama", "LlamaForCausalLM", sizes, **{"tie_word_embeddings": True} | more)


def _qwen2(*sizes: int, **more: Any) -> dict[str, Any]:
    return _dense("qwen2", "Qwen2ForCausalLM", sizes, **{"tie_word_embeddings": True} | more)


def _qwen3(*sizes: int, **more: Any) -> dict[str, Any]:
    return _dense("qwen3", "Qwen3ForCausalLM", sizes, **{"tie_word_embeddings": True, "head_dim": 128} | more)


def _gemma3(window: int, *sizes: int, kind: str = "gemma3_text") -> dict[str, Any]:
    more = {"head_dim": 256, "sliding_window": window, "sliding_window_pattern": 6}
    return _dense(kind, "Gemma3ForCausalLM", sizes, **more)


SHAPES: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": _llama(576, 1536, 30, 9, 3, 49152),
    "SmolLM2-360M": _llama(960, 2560, 32, 15, 5, 49152),
    "Qwen2.5-0.5B": _qwen2(896, 4864, 24, 14, 2, 151936),
    "Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, 8, 151936),
    "gemma-3-1b": _gemma3(512, 1152, 6912, 26, 4, 1, 262144),
    "Llama-3.2-1B": _llama(2048, 8192, 16, 32, 8, 128256, head_dim=64),
    "Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, 8, 151936),
    "SmolLM3-3B": _dense("smollm3", "SmolLM3ForCausalLM", (2048, 11008, 36, 16, 4, 128256), tie_word_embeddings=True),
    "Llama-3.2-3B": _llama(3072, 8192, 28, 24, 8, 128256, head_dim=128),
    "Phi-4-mini": _dense(
        "phi3", "Phi3ForCausalLM", (3072, 8192, 32, 24, 8, 200064), tie_word_embeddings=True, pad_token_id=0
    ),
    "gemma-3-4b": {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": _gemma3(1024, 2560, 10240, 34, 8, 4, 262208),
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
            "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 14, "image_size": 896,
            "vision_use_head": False,
        },
    },
    "Qwen3-4B": _qwen3(2560, 9728, 36, 32, 8, 151936),
    "Mistral-7B": _dense(
        "mistral", "MistralForCausalLM", (4096, 14336, 32, 32, 8, 32768), sliding_window=None, tie_word_embeddings=False
    ),
    "Qwen2.5-7B": _qwen2(3584, 18944, 28, 28, 4, 152064, tie_word_embeddings=False),
    "Llama-3.1-8B": _llama(4096, 14336, 32, 32, 8, 128256, tie_word_embeddings=False),
    "Qwen3-8B": _qwen3(4096, 12288, 36, 32, 8, 151936, tie_word_embeddings=False),
}  # fmt: skip
"""Name → config.json."""
