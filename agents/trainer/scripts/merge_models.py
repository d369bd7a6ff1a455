"""What merge.py does with several models: average, interpolate or add up their changes, by mergekit.

linear and soups: the weighted mean [arXiv 2203.05482]. slerp: the way on the sphere between two [Shoemake 1985]. ties:
the largest changes of each, where most agree in sign [arXiv 2306.01708]. dare: a random part of each change, scaled up
to make up for the rest [arXiv 2311.03099]. All arithmetic is in float32, a tensor at a time.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merge_adapters import Unusable, is_adapter, load, shapes_of


def last_checkpoints(folder: Path, last: int) -> list[Path]:
    """The last checkpoints of a training, oldest first. Raises Unusable where there are fewer."""
    numbered = {
        int(match[1]): path for path in folder.glob("checkpoint-*") if (match := re.search(r"-(\d+)$", path.name))
    }
    if len(numbered) < last:
        raise Unusable(
            f"{folder} holds {len(numbered)} checkpoints and not {last}", "set save_steps, or average fewer of them"
        )
    return [numbered[step] for step in sorted(numbered)[-last:]]


def whole(source: Path, base: Path, room: Path) -> Path:
    """A folder with all weights: the source itself, or in `room` the base with that adapter merged, in float32.

    In the base's own precision the small change that an adapter makes would be rounded before it is compared.
    """
    if not is_adapter(source):
        return source
    load(base, source).merge_and_unload(safe_merge=True).save_pretrained(room)
    return room


def mix(
    method: str, models: Sequence[tuple[Path, dict[str, Any]]], out: Path, *, base: Path | None = None, dtype: str,
    seed: int = 0, **parameters: Any,
) -> None:  # fmt: skip
    """Merge whole models, each with its own parameters, into `out`, with no other file than config and weights.

    `base` is what changes are measured from. Raises Unusable where mergekit is missing or cannot merge these, which
    have the same tensors.
    """
    try:
        from mergekit.config import MergeConfiguration
        from mergekit.merge import run_merge
        from mergekit.options import MergeOptions
    except ImportError as error:
        raise Unusable(
            f"merging by {method} needs mergekit ({error})", "pip install 'postgrad[merge]', or merge one adapter"
        ) from error
    logging.getLogger("transformers").setLevel(logging.ERROR)
    plain = {
        "merge_method": method,
        "models": [{"model": _reference(path), "parameters": own} for path, own in models],
        "parameters": parameters,
        "dtype": "float32",
        "out_dtype": dtype,
    }
    if base is not None:
        plain["base_model"] = _reference(base)
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True, random_seed=seed)
    try:
        run_merge(MergeConfiguration.model_validate(plain), str(out), options)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        what = str(error).strip().partition("\n")[0]
        raise Unusable(
            f"mergekit cannot merge these by {method}: {what}", "merge others, or by another method"
        ) from error


def require_same_shapes(folders: Sequence[Path]) -> None:
    """Raise Unusable where the models do not have the same tensors: they come from different bases."""
    first = shapes_of(folders[0])
    if not first:
        raise Unusable(f"{folders[0]} holds no safetensors weights", "save the model with save_pretrained")
    for folder in folders[1:]:
        other = shapes_of(folder)
        differs = next((name for name in sorted(first | other) if first.get(name) != other.get(name)), None)
        if differs:
            raise Unusable(
                f"{folder} does not fit {folders[0]}: {differs} is {other.get(differs, 'not there')}, "
                f"there {first.get(differs, 'not there')}",
                "merge models of one base",
            )


def _reference(folder: Path) -> dict[str, Any]:
    """A model as mergekit takes it; in a string, `+` and `@` would have a meaning."""
    return {"model": {"path": str(folder)}}
