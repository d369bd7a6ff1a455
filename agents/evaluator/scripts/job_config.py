"""What an answering job can be told: config.json, checked before anything heavy is loaded."""

import difflib
import json
import typing
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

CHOICES = {
    "decoding": ("greedy", "model"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "engine": ("auto", "transformers", "vllm"),
}


class JobError(Exception):
    """The job cannot be done as it was given; the message ends with the next move."""


@dataclass(frozen=True)
class Config:
    model: str
    """Folder or Hub id."""
    prompts: str
    """JSONL file."""
    revision: str | None = None
    adapter: str | None = None
    """Folder or Hub id of a PEFT adapter over the model."""
    chat_template: str | None = None
    """Jinja file in place of the model's own template."""
    decoding: str = "greedy"
    """`greedy` takes the likeliest token each time; `model` samples as the model's generation_config.json says."""
    max_tokens: int = 256
    """Of an answer; fewer where prompt and answer together would exceed the model's context."""
    micro_batch: int = 64
    """Prompts that are answered at a time, at most: halved when memory runs out."""
    seed: int = 0
    """Of sampling; every prompt has random numbers of its own, whatever it shares a batch with."""
    dtype: str = "auto"
    """auto: the checkpoint's own on an accelerator; on a CPU bfloat16 where it calculates in it, else float32."""
    engine: str = "auto"
    """auto: vLLM on a GPU where it is installed, else transformers."""
    resume_from: str | None = None
    """Folder of an earlier try's answers.jsonl, which are taken over."""

    @property
    def template(self) -> str | None:
        """The text of `chat_template`. Raises JobError where it cannot be read."""
        try:
            return Path(self.chat_template).read_text(encoding="utf-8") if self.chat_template else None
        except (OSError, ValueError) as e:
            raise JobError(f"cannot read the chat template {self.chat_template}: {e}; give a Jinja file") from e


def read_config(path: Path) -> Config:
    """Raises JobError for anything that is not exactly the documented settings."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise JobError(f"cannot read the config {path}: {e}; give a JSON file") from e
    if not isinstance(given, dict):
        raise JobError(f"{path} is not a JSON object; see the example at the top of this script")
    known = {field.name: field for field in fields(Config)}
    for key in given.keys() - known.keys():
        near = difflib.get_close_matches(key, known, 1)
        raise JobError(f"unknown key {key!r} in {path}; " + (f"did you mean {near[0]!r}?" if near else "remove it"))
    missing = [name for name, field in known.items() if field.default is MISSING and name not in given]
    if missing:
        raise JobError(f"{path} lacks {', '.join(missing)}; add it")
    types = typing.get_type_hints(Config)
    for key, value in given.items():
        if not isinstance(value, types[key]) or isinstance(value, bool):
            raise JobError(f"{key} is {value!r} in {path}; give a value of type {known[key].type}")
    config = Config(**given)
    for folder in (config.model, config.adapter, config.resume_from):
        if folder and Path(folder).is_absolute() and not Path(folder).is_dir():
            raise JobError(f"there is no folder {folder}; correct its name, or leave it out")
    for name in ("max_tokens", "micro_batch"):
        if getattr(config, name) < 1:
            raise JobError(f"{name} is {getattr(config, name)}; give at least 1")
    for name, allowed in CHOICES.items():
        if getattr(config, name) not in allowed:
            raise JobError(f"{name} is {getattr(config, name)!r}; choose {' or '.join(allowed)}")
    return config
