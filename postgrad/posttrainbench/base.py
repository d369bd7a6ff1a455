"""The base model as PostTrainBench's evaluator will meet what is made of it: its template, and where its turns end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from agents.base_model import BaseModel, find_base_model
from agents.data_engineer.checks.chat_template import Refused, chat_template_of
from shared_memory.errors import BadInput
from shared_memory.run_paths import write_atomically

POLICY = "generation_config.json"
_KEPT = (".json", ".jinja", ".txt", ".model")
_ANSWER = "forty-two"


def base_model_of(name: str) -> BaseModel:
    """The base model, from the cache where it is whole: a gated one is there, and nobody has a token.

    Raises BadInput as `find_base_model` does.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if not Path(name).is_absolute():
        try:
            return find_base_model(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, BadInput):
            pass
    return find_base_model(name)


def lay_out(original: Path, template: Path, folder: Path) -> Path:
    """A model folder to train from: the original, with the evaluator's chat template, and stopping where its turns end.

    A base model ends its texts with another token than the template ends a turn with, and an evaluator stops at what
    generation_config.json names: without it, a model that has learned to end its turn is not heard to. Weights are
    links. Raises BadInput for a template that renders no answer.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in sorted(original.iterdir()):
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file.resolve())
        elif file.is_file() and file.suffix in _KEPT:
            shutil.copyfile(file, folder / file.name)
    shutil.copyfile(template, folder / "chat_template.jinja")
    policy = _read(folder / POLICY) or _policy_of(_read(folder / "config.json"))
    ends = policy.get("eos_token_id")
    stops = ends if isinstance(ends, list) else [] if ends is None else [ends]
    end = turn_end(folder)
    if end is not None and end not in stops:
        policy["eos_token_id"] = [*stops, end]
    write_atomically(folder / POLICY, (json.dumps(policy, indent=2) + "\n").encode())
    return folder


def turn_end(folder: Path) -> int | None:
    """The special token that the chat template puts behind an answer; None where it puts none."""
    template = chat_template_of(folder)
    asked = [{"role": "user", "content": "What is 6 × 7?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        rendered = template.render(asked) if template else ""
    except Refused as refused:
        raise BadInput(f"the task's template renders no answer ({refused}); look at templates/") from refused
    behind = rendered.rpartition(_ANSWER)[2].lstrip()
    added = _read(folder / "tokenizer.json").get("added_tokens") or []
    ends = [token for token in added if token.get("content") and behind.startswith(token["content"])]
    return int(max(ends, key=lambda token: len(token["content"]))["id"]) if ends else None


def _policy_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a model without a decoding policy of its own stops at and pads with."""
    keys = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {key: config[key] for key in keys if config.get(key) is not None}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not readable JSON ({error}); fetch the model again") from error
    return value if isinstance(value, dict) else {}
