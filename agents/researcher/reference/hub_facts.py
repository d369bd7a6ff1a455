"""Facts about repositories of the Hub in few words: a model's shape, a data set's columns, tags, counts and sizes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

MOST_COLUMNS = 40
MOST_TAGS = 12
"""Of one sort; a data set may have hundreds."""
SHAPE = (
    ("num_hidden_layers", "layers"), ("hidden_size", "hidden"), ("intermediate_size", "intermediate"),
    ("num_attention_heads", "attention heads"), ("num_key_value_heads", "key-value heads"), ("head_dim", "per head"),
    ("num_experts", "experts"), ("num_local_experts", "experts"), ("num_experts_per_tok", "experts per token"),
    ("sliding_window", "sliding window"),
)  # fmt: skip
"""Keys of a configuration → how they are told."""


def tag(tags: Iterable[str] | None, prefix: str) -> str:
    return ", ".join(tag.removeprefix(prefix) for tag in tags or () if tag.startswith(prefix))


def tagged(tags: Iterable[str], prefixes: Iterable[str]) -> str:
    """Tags by what they are about; a data set may have hundreds."""
    tags = list(tags)
    parts = []
    for prefix in prefixes:
        values = list(dict.fromkeys(tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)))
        if values:
            more = f" and {len(values) - MOST_TAGS} more" if len(values) > MOST_TAGS else ""
            parts.append(f"{prefix.rstrip(':').replace('_', ' ')}: {', '.join(values[:MOST_TAGS])}{more}")
    return " · ".join(parts)


def shape(config: Mapping[str, Any], own_template: bool) -> str:
    """What a configuration says of the language model in it."""
    if not config:
        return "Configuration: none that can be read"
    inner, named = config.get("text_config"), config.get("architectures")
    text = {**config, **inner} if isinstance(inner, dict) else config
    parts = [
        f"{', '.join(map(str, named)) if named and isinstance(named, list) else 'unnamed'} "
        f"({config.get('model_type', '?')})",
        *(f"{label} {text[key]:,}" for key, label in SHAPE if isinstance(text.get(key), int)),
        _number("context", text.get("max_position_embeddings")),
        _number("vocabulary", text.get("vocab_size")),
        f"{text.get('dtype') or text.get('torch_dtype')}" if text.get("dtype") or text.get("torch_dtype") else "",
        "tied embeddings" if text.get("tie_word_embeddings") else "",
        "chat template in the repository" if own_template else "",
        "needs code of the repository" if config.get("auto_map") else "",
    ]
    return f"Architecture: {' · '.join(filter(None, parts))}"


def _number(label: str, value: Any) -> str:
    return f"{label} {value:,}" if isinstance(value, int) else ""


def configs_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """Config → what a card says of its splits and columns."""
    entries = card.get("dataset_info") or []
    entries = entries if isinstance(entries, list) else [entries]
    return {str(each.get("config_name", "default")): each for each in entries if isinstance(each, dict)}


def listed(value: Any) -> list[dict[str, Any]]:
    """A list of mappings with names, from one or from a mapping by name."""
    if isinstance(value, dict):
        entries = {
            name: {"feature": each[0]} if isinstance(each, list) and each else each for name, each in value.items()
        }
        return [{"name": name, **(each if isinstance(each, dict) else {})} for name, each in entries.items()]
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def told_split(split: Mapping[str, Any]) -> str:
    """A split with rows and bytes, where they are known."""
    rows, size = split.get("num_examples"), split.get("num_bytes")
    told = [f"{rows:,} rows" if isinstance(rows, int) else "", told_bytes([size]) if isinstance(size, int) else ""]
    return f"{split.get('name')} {' of '.join(filter(None, told))}".strip()


def told_columns(features: Any) -> str:
    """Columns with their types, of a card or of the viewer, which write them in different forms."""
    columns = listed(features)
    shown = ", ".join(f"{each.get('name')} {_type(each)}" for each in columns[:MOST_COLUMNS])
    return shown + (f" … and {len(columns) - MOST_COLUMNS} more" if len(columns) > MOST_COLUMNS else "") or "not named"


def _type(feature: Mapping[str, Any]) -> str:
    """In few words, as deep as two levels: `list of {role, content}`."""
    for key in ("list", "sequence", "feature"):
        if key in feature:
            inner = feature[key]
            return f"list of {inner if isinstance(inner, str) else _inner(inner)}"
    if "struct" in feature:
        return _inner(feature["struct"])
    kind = feature.get("dtype")
    return str(kind if isinstance(kind, str) else feature.get("_type") or _inner(feature)).lower()


def _inner(value: Any) -> str:
    if not isinstance(value, dict | list):
        return "anything"
    if isinstance(value, dict) and isinstance(value.get("dtype"), str):
        return str(value["dtype"])
    names = [str(each.get("name")) for each in listed(value)] if isinstance(value, list) else [*map(str, value)]
    return f"{{{', '.join(name for name in names if name not in {'_type', 'name'})}}}"


def in_short(metadata: Mapping[str, Any]) -> str:
    """The card's metadata in one line; what is described elsewhere, and what is long, by its size."""
    parts = []
    for key, value in metadata.items():
        text = json.dumps(value, ensure_ascii=False, default=str)
        parts.append(f"{key}: {text if len(text) <= 200 else f'({len(text):,} characters)'}")
    return "; ".join(parts)


def count(number: float) -> str:
    """A number to three digits: `1.72B`."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:g}"


def told_bytes(sizes: Iterable[int]) -> str:
    """The sum of sizes in bytes, to three digits: `4.06 GB`."""
    total = float(sum(sizes))
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if total >= unit:
            return f"{total / unit:.3g} {name}"
    return f"{total:g} bytes"
