"""Models and adapters on disk, made of numpy arrays: what a lineage is told by, in milliseconds and without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.evaluator.integrity.tensors import Weights

Tensors = dict[str, NDArray[Any]]


def write_tensors(file: Path, tensors: Mapping[str, NDArray[Any]], dtype: str = "F32") -> None:
    """A safetensors file, by its specification; BF16 is rounded to the nearest."""
    header: dict[str, Any] = {}
    body = b""
    for name, values in tensors.items():
        full = np.ascontiguousarray(values, dtype=np.float32)
        bits = full.view(np.uint32)
        data = (
            ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes() if dtype == "BF16" else full.tobytes()
        )
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)


def tensors_of(folder: Path) -> Tensors:
    weights = Weights(folder)
    return {name: weights.rows(name).reshape(weights.shapes[name]).copy() for name in weights}


def model_like(base: Path, folder: Path, tensors: Mapping[str, NDArray[Any]], dtype: str = "F32") -> Path:
    """A model with the base's other files and its own weights."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    write_tensors(folder / "model.safetensors", tensors, dtype)
    return folder


def trained(base: Tensors, updates: int, learning_rate: float, seed: int = 0) -> Tensors:
    """Every weight moved by a learning rate an update, one way or the other: Adam under gradients of pure noise."""
    draw = np.random.default_rng(seed)
    moved = {name: values.copy() for name, values in base.items()}
    for values in moved.values():
        for _ in range(updates):
            values += learning_rate * draw.choice([-1.0, 1.0], values.shape)
    return moved


def adapter_of(base: Path, folder: Path, rank: int = 4, size: float = 0.01, named: str = "", seed: int = 0) -> Path:
    """A LoRA of all projections of the base."""
    draw = np.random.default_rng(seed)
    tensors: Tensors = {}
    for name, shape in Weights(base).shapes.items():
        if name.endswith("_proj.weight"):
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = draw.uniform(-1, 1, (rank, shape[1])) / np.sqrt(shape[1])
            tensors[f"{stem}.lora_B.weight"] = size * draw.standard_normal((shape[0], rank))
    folder.mkdir(parents=True)
    write_tensors(folder / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": named or str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged(base: Path, adapter: Path, folder: Path, dtype: str = "F32") -> Path:
    """The base with its adapter added."""
    pairs = Weights(adapter, "adapter")
    tensors = tensors_of(base)
    for name in tensors:
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in pairs:
            a, b = (pairs.rows(f"{stem}.lora_{matrix}.weight") for matrix in "AB")
            tensors[name] = tensors[name] + 2 * (b @ a)
    return model_like(base, folder, tensors, dtype)
