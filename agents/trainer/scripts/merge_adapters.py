"""What merge.py does with one adapter: put it on its base, and refuse one that the base cannot carry."""

import json
from pathlib import Path
from typing import Any

SENTENCE = "A force of 3 N acts on a mass of 2 kg. The acceleration is 1.5 m/s²."


class Unusable(Exception):
    """A model, adapter or package that cannot be used: what is wrong, and the next move."""

    def __init__(self, what: str, next_move: str) -> None:
        super().__init__(f"{what}; {next_move}")


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def load(base: Path, adapter: Path) -> Any:
    """The base in float32 with the adapter on it; a base that the adapter's tokenizer has outgrown is grown as well.

    Raises Unusable where one of them cannot be loaded, or where tokens were added and their embeddings not saved.
    """
    import torch
    from peft import PeftModel

    try:
        tensors = shapes_of(adapter, "adapter_model*.safetensors")
        kind, options = _class_of(adapter, tensors)
        model: Any = kind.from_pretrained(base, dtype=torch.float32, **options)
        rows = _rows_to_grow_to(model, adapter, tensors)
        if rows:
            model.resize_token_embeddings(rows, mean_resizing=False)
        return PeftModel.from_pretrained(model, str(adapter))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        what = str(error).strip().partition("\n")[0].rstrip(":")
        raise Unusable(
            f"{adapter} on {base} cannot be loaded: {what}", "give the base and its adapter's folder"
        ) from error


def shapes_of(folder: Path, pattern: str = "*.safetensors") -> dict[str, tuple[int, ...]]:
    """Tensor → shape, of the safetensors files of a folder, from their headers alone."""
    from safetensors import safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob(pattern)):
        with safe_open(file, "pt") as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return shapes


def _class_of(adapter: Path, tensors: dict[str, tuple[int, ...]]) -> tuple[Any, dict[str, Any]]:
    """The class to load the base with: a reward model's adapter brings a head of its own."""
    import transformers

    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("task_type") != "SEQ_CLS":
        return transformers.AutoModelForCausalLM, {}
    heads = [shape[0] for name, shape in tensors.items() if name.endswith("score.weight")]
    return transformers.AutoModelForSequenceClassification, {"num_labels": heads[0] if heads else 1}


def _rows_to_grow_to(model: Any, adapter: Path, tensors: dict[str, tuple[int, ...]]) -> int:
    """Rows of the embeddings that the adapter was trained with, where the base has others; else 0.

    Raises Unusable where its tokenizer knows more tokens than the base has rows, and it brings no rows for them: such
    a model would read rows that nobody has trained.
    """
    embeddings = model.get_input_embeddings()
    leaf = next(name for name, module in model.named_modules() if module is embeddings).rpartition(".")[2]
    saved = [
        s[0] for name, s in tensors.items() if f".{leaf}." in name and name.endswith("weight") and "lora" not in name
    ]
    if saved:
        return saved[0] if saved[0] != embeddings.num_embeddings else 0
    known = tokens_of(adapter)
    if known <= embeddings.num_embeddings:
        return 0
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("trainable_token_indices"):
        return known
    raise Unusable(
        f"{adapter} was saved without its resized embeddings: its tokenizer knows {known} tokens, and the base has "
        f"{embeddings.num_embeddings} rows",
        "train again with the embeddings in modules_to_save, or without new tokens",
    )


def tokens_of(folder: Path) -> int:
    """Tokens that the tokenizer in a folder knows; 0 where there is none."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return 0
    return len(AutoTokenizer.from_pretrained(folder))


def predictions(model: Any, tokens: Any) -> Any:
    """Of a language model the log-probability of each next token, (tokens - 1,); of a reward model its score, (1,)."""
    import torch

    ids = tokens["input_ids"]
    with torch.inference_mode():
        logits = model.eval()(input_ids=ids).logits.float()
    if logits.dim() == 2:
        return logits[0]
    return logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
