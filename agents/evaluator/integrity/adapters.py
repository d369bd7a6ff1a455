"""A LoRA adapter on disk, read without torch: what it changes in its base, and how far it was trained."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.evaluator.integrity.tensors import Floats, Weights, plain_name
from shared_memory.errors import BadInput

_PREFIX = "base_model.model."
"""What PEFT puts before the names of the model that it wraps."""


@dataclass(frozen=True)
class Adapter:
    """Its matrices by the name of the base's tensor that they change."""

    base: str
    """What its config says that it is an adapter of."""
    scale: float
    """α / r, or α / √r."""
    transposed: bool
    """The base's matrices are laid out as (in, out)."""
    pairs: dict[str, tuple[Floats, Floats]]
    """Tensor → A (rank, in) and B (out, rank): the change is scale · B A [arXiv 2106.09685]."""
    whole: dict[str, Floats]
    """Tensors that were trained as a whole beside it."""
    doubts: tuple[str, ...]

    @property
    def rank(self) -> int:
        return max((len(a) for a, _ in self.pairs.values()), default=0)

    def fits(self, name: str, shape: tuple[int, ...]) -> bool:
        a, b = self.pairs[name]
        wanted = (a.shape[1], b.shape[0]) if self.transposed else (b.shape[0], a.shape[1])
        return a.shape[0] == b.shape[1] and shape == wanted

    def square(self, name: str) -> float:
        """The squared Frobenius norm of a tensor's change, by matrices of the rank's size."""
        a, b = (each.astype(np.float64) for each in self.pairs[name])
        return self.scale**2 * float(np.sum((b.T @ b) * (a @ a.T)))

    def travels(self) -> list[tuple[str, float]]:
        """Tensor → how far its B has moved, as a root mean square: it begins at 0, and A at random."""
        return [(name, math.sqrt(float(np.mean(b.astype(np.float64) ** 2)))) for name, (_, b) in self.pairs.items()]

    def merged(self, name: str, base: Floats, rows: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """What some rows of the base's tensor become; `name` without the words for how a model is wrapped."""
        for own, trained in self.whole.items():
            if plain_name(own) == name:
                return (trained if rows is None else trained[rows]).astype(np.float64)
        for own, pair in self.pairs.items():
            if plain_name(own) == name:
                a, b = (each.astype(np.float64) for each in pair)
                left, right = (a.T, b.T) if self.transposed else (b, a)
                added: NDArray[np.float64] = self.scale * (left if rows is None else left[rows]) @ right
                return base + added
        return base.astype(np.float64)


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder. Raises BadInput where there is none that can be read."""
    config = _config(folder)
    weights = Weights(folder, "adapter")
    first: dict[str, Floats] = {}
    second: dict[str, Floats] = {}
    whole: dict[str, Floats] = {}
    for full in weights:
        name = full.removeprefix(_PREFIX)
        for kind, into in ((".lora_A.weight", first), (".lora_B.weight", second)):
            if name.endswith(kind):
                into[name.removesuffix(kind) + ".weight"] = weights.rows(full)
                break
        else:
            if "lora_" not in name:
                whole[name] = weights.rows(full)
    rank, alpha = int(config.get("r") or 1), float(config.get("lora_alpha") or 1)
    return Adapter(
        base=str(config.get("base_model_name_or_path") or ""),
        scale=alpha / (math.sqrt(rank) if config.get("use_rslora") else rank),
        transposed=bool(config.get("fan_in_fan_out")),
        pairs={name: (first[name], second[name]) for name in first if name in second},
        whole=whole,
        doubts=tuple(_doubts(config)),
    )


def _doubts(config: dict[str, Any]) -> list[str]:
    """What this reading does not know how to add up."""
    odd = [key for key in ("use_dora", "rank_pattern", "alpha_pattern", "layer_replication") if config.get(key)]
    if config.get("peft_type") != "LORA":
        odd.append(f"peft_type {config.get('peft_type')}")
    return [f"it is no plain LoRA ({', '.join(odd)}), and was compared by its shapes alone"] if odd else []


def _config(folder: Path) -> dict[str, Any]:
    try:
        read = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} has no adapter_config.json that can be read ({error}); give an adapter") from error
    if not isinstance(read, dict):
        raise BadInput(f"{folder}/adapter_config.json is no JSON object; give an adapter")
    return read
