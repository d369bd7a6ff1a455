"""A decoder's sizes and weights, from its config.json alone; imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_memory.errors import BadInput
from shared_memory.records import Record

UNSET: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "tie_word_embeddings": True, "sliding_window": 4096,
    },
    "qwen3": {"head_dim": 128},
    "smollm3": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "mixtral": {"num_key_value_heads": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {"head_dim": None, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    "qwen2_moe": {"num_experts_per_tok": 4, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
}  # fmt: skip
"""Kind of model → what transformers 5.23 takes for keys that its config.json leaves out, where that is no refusal."""
UNSET["gemma3"] = UNSET["gemma3_text"]
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
COUNTED_EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe")
WITH_NORMED_HEADS = ("gemma3", "gemma3_text", "qwen3", "qwen3_moe")
SLIDING_PATTERN = 6
"""Gemma 3: every sixth layer sees all tokens, the others a window."""


class Shape(Record):
    """The sizes of a Llama-like decoder, in elements."""

    kind: str
    """`model_type`."""
    hidden: int
    layers: int
    heads: int
    keys: int
    """Heads of keys and values, which groups of query heads share."""
    head: int
    """Size of one head."""
    inner: int
    """Width of the gated MLP; of one expert, where there are experts."""
    words: int
    """Of the vocabulary."""
    tied: bool
    """Whether the embeddings are the output's weights, too."""
    biased: int = 0
    """Elements of a block's biases."""
    norms: int = 2
    """Of a block, on the whole width."""
    normed_heads: bool = False
    """Whether each head of queries and keys is normed."""
    fused: bool = False
    """Whether queries, keys and values are one linear layer, gate and up another (Phi-3, Phi-4)."""
    window: int = 0
    """Tokens that a layer with a sliding window sees; 0 where none has one."""
    windowed: int = 0
    """Layers that have one."""
    experts: int = 0
    """Of a block; 0 for a plain MLP."""
    active: int = 1
    """Experts that a token passes."""
    shared: int = 0
    """Width of an expert that all tokens pass."""
    elsewhere: int = 0
    """Weights that text does not pass: a vision tower."""

    @property
    def queries(self) -> int:
        return self.heads * self.head

    @property
    def values(self) -> int:
        return self.keys * self.head

    @property
    def embeddings(self) -> int:
        """Weights of one table of the vocabulary."""
        return self.words * self.hidden

    @property
    def linear_widths(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of a block's linear layers; of experts, those of one."""
        hidden, inner = self.hidden, self.inner
        if self.fused:
            projections = [(hidden, self.queries + 2 * self.values), (self.queries, hidden)]
            return (*projections, (hidden, 2 * inner), (inner, hidden))
        attention = [(hidden, self.queries), (hidden, self.values), (hidden, self.values), (self.queries, hidden)]
        return (*attention, (hidden, inner), (hidden, inner), (inner, hidden))

    @property
    def linear(self) -> int:
        """Weights of a block's matrices, of all its experts."""
        attention = 2 * self.hidden * (self.queries + self.values)
        if not self.experts:
            return attention + 3 * self.hidden * self.inner
        experts = self.experts * (3 * self.inner + 1) * self.hidden  # each has a row of the router
        return attention + experts + (3 * self.shared + 1) * self.hidden * (self.shared > 0)

    @property
    def active_linear(self) -> int:
        """Those that a token passes."""
        idle = max(0, self.experts - self.active) * 3 * self.hidden * self.inner
        return self.linear - idle

    @property
    def block(self) -> int:
        """Weights of a block."""
        heads = 2 * self.head if self.normed_heads else 0
        return self.linear + self.biased + self.norms * self.hidden + heads

    @property
    def parameters(self) -> int:
        tables = self.embeddings * (1 if self.tied else 2)
        return tables + self.layers * self.block + self.hidden + self.elsewhere


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The sizes that a config.json tells; of a model that also sees, those of its text part.

    Raises BadInput where the config is of another kind: sizes under other names, or experts that cannot be counted.
    """
    text = config.get("text_config")
    whole, config = config, text if isinstance(text, Mapping) else config
    kind = str(config.get("model_type") or whole.get("model_type") or "")
    unset = UNSET.get(kind, {})

    def number(key: str, default: int | None = None) -> int:
        value = config.get(key, unset.get(key))
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadInput(
                f"config.json has no number `{key}`, so the weights cannot be counted; "
                "give a folder that holds the safetensors files, of a Llama-like model"
            )
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    head, layers = number("head_dim", hidden // heads), number("num_hidden_layers")
    keys = number("num_key_value_heads", heads)
    tied = config.get("tie_word_embeddings", whole.get("tie_word_embeddings", unset.get("tie_word_embeddings")))
    window, windowed = _window(config, unset, layers)
    return Shape(
        kind=kind,
        hidden=hidden,
        layers=layers,
        heads=heads,
        keys=keys,
        head=head,
        words=number("vocab_size"),
        tied=bool(tied),
        biased=_biases(config, kind, hidden, heads * head, keys * head),
        norms=4 if kind.startswith("gemma3") else 2,
        normed_heads=kind in WITH_NORMED_HEADS,
        fused=kind == "phi3",
        window=window,
        windowed=windowed,
        elsewhere=_vision(whole, hidden),
        **_mlp(config, kind, number),
    )


def usual_shape(parameters: int) -> Shape:
    """A Llama-like shape of about so many weights, for a model whose config.json tells no sizes.

    Depth grows with width as in Llama 3, 128 of width a layer; a block has 12 × hidden² weights, and the vocabulary a
    fifth of all.
    """
    layers = max(1, round((0.8 * parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    return Shape(
        kind="", hidden=hidden, layers=layers, heads=max(1, hidden // 128), keys=max(1, hidden // 128),
        head=min(128, hidden), inner=8 * hidden // 3, words=32000, tied=True,
    )  # fmt: skip


def _mlp(config: Mapping[str, Any], kind: str, number: Any) -> dict[str, int]:
    """Width and experts of a block. Raises BadInput for experts of a kind that is not known."""
    key = next((key for key in EXPERTS if config.get(key)), None)
    if key is None:
        return {"inner": number("intermediate_size")}
    irregular = config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1
    if kind not in COUNTED_EXPERTS or irregular:
        raise BadInput(
            f"a mixture of experts of the kind `{kind or 'unknown'}` cannot be counted from its config.json; "
            f"plan one of {', '.join(COUNTED_EXPERTS)} with equal layers, or a dense model"
        )
    return {
        "inner": number("moe_intermediate_size", number("intermediate_size")),
        "experts": number(key),
        "active": number("num_experts_per_tok"),
        "shared": number("shared_expert_intermediate_size", 0),
    }


def _biases(config: Mapping[str, Any], kind: str, hidden: int, queries: int, values: int) -> int:
    """Elements of a block's biases: Qwen2 always has them on queries, keys and values, others where they say so."""
    if kind in ("qwen2", "qwen2_moe"):
        return queries + 2 * values
    biased = queries + 2 * values + hidden if config.get("attention_bias") else 0
    inner = config.get("intermediate_size")
    return biased + (2 * inner + hidden if config.get("mlp_bias") and isinstance(inner, int) else 0)


def _window(config: Mapping[str, Any], unset: Mapping[str, Any], layers: int) -> tuple[int, int]:
    """Size of the sliding window, and the number of layers that have one."""
    window = config.get("sliding_window", unset.get("sliding_window"))
    if not isinstance(window, int) or config.get("use_sliding_window") is False:
        return 0, 0
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return window, sum(kind == "sliding_attention" for kind in kinds)
    if str(config.get("model_type", "")).startswith("gemma3"):
        pattern = int(config.get("sliding_window_pattern") or SLIDING_PATTERN)
        return window, layers - layers // pattern
    if str(config.get("model_type", "")) in ("mistral", "mixtral", "phi3"):
        return window, layers
    return 0, 0


def _vision(config: Mapping[str, Any], hidden: int) -> int:
    """Weights of a SigLIP tower and its projector [arXiv 2303.15343], as Gemma 3 has them."""
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return 0
    width, inner = int(vision.get("hidden_size", 1152)), int(vision.get("intermediate_size", 4304))
    layers, patch = int(vision.get("num_hidden_layers", 27)), int(vision.get("patch_size", 14))
    positions = (int(vision.get("image_size", 896)) // patch) ** 2
    block = 4 * width * (width + 1) + 2 * width * inner + inner + width + 4 * width
    return layers * block + (3 * patch**2 + 1 + positions + 2 + hidden + 1) * width
