"""Whether a model has the architecture and the vocabulary of its base, by its config and its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared_memory.errors import BadInput

SHAPE = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "n_embd", "n_layer", "n_head", "num_experts", "num_local_experts",
)  # fmt: skip
"""Keys of a config that no fine-tune changes."""


def config_of(folder: Path) -> dict[str, Any]:
    """config.json, that of the language model where there are several. Raises BadInput where there is none."""
    try:
        read = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {**read, **(read.get("text_config") or {})}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{folder} has no config.json that can be read ({error}); give a model folder") from error


def faults_of_config(base: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """Why a config is not that of a fine-tune."""
    differ = [
        f"{key} {model[key]}, not {base[key]}"
        for key in SHAPE
        if None not in (base.get(key), model.get(key)) and base[key] != model[key]
    ]
    faults = [f"its architecture is not the base's: {'; '.join(differ)}"] if differ else []
    if model.get("auto_map") and model.get("auto_map") != base.get("auto_map"):
        faults.append("its config has code loaded (auto_map) that the base does not have")
    return faults


def compare_vocabularies(base: Path, model: Path) -> tuple[list[str], list[str]]:
    """What is wrong with a model's tokenizer, and what cannot be told: it may have new tokens, and no others.

    Raises BadInput where one cannot be read.
    """
    files = [folder / "tokenizer.json" for folder in (base, model)]
    if not all(file.is_file() for file in files):
        return [], ["it and the base have no tokenizer.json to compare"]
    if files[0].read_bytes() == files[1].read_bytes():
        return [], []
    ours, theirs = (dict(_vocabulary(file)) for file in files)
    moved = sum(theirs.get(token) != number for token, number in ours.items())
    return ([f"its tokenizer is another one: {moved} of the base's {len(ours)} tokens differ"] if moved else []), []


def _vocabulary(file: Path) -> Iterator[tuple[str, int]]:
    """Token → id, of a tokenizer.json."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        known = read["model"]["vocab"]
        yield from known.items() if isinstance(known, dict) else ((entry[0], n) for n, entry in enumerate(known))
        yield from ((entry["content"], entry["id"]) for entry in read.get("added_tokens") or ())
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInput(f"{file} is no tokenizer that can be read ({error}); fetch the model again") from error
