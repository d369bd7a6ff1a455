"""What a model is asked: rows of a file, as the chat template renders them, in tokens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job import JobError
from job_config import Config

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Prompt:
    """A line of the prompts file."""

    asked: dict[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        """Id and epoch."""
        return self.asked["id"], self.asked["epoch"]


@dataclass(frozen=True)
class Encoded:
    """A prompt as the model reads it."""

    prompt: Prompt
    ids: tuple[int, ...]
    limit: int
    """Tokens that the answer may take."""


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts in file order. Raises JobError with the line number for a row that cannot be asked."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, ValueError) as e:
        raise JobError(f"cannot read the prompts {path}: {e}; give a JSONL file") from e
    prompts: list[Prompt] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            usable = bool(row["messages"]) and isinstance(row["id"], str) and isinstance(row["epoch"], int)
            usable &= all(turn["role"] in ROLES and isinstance(turn["content"], str) for turn in row["messages"])
        except (ValueError, KeyError, TypeError) as e:
            raise JobError(f"{path}, line {number} is not a prompt ({e!r}); see the top of this script") from e
        if not usable:
            raise JobError(f"{path}, line {number} is not a prompt; see the top of this script")
        prompts.append(Prompt(row))
    if len({prompt.key for prompt in prompts}) < len(prompts):
        raise JobError(f"{path} has an id twice in one epoch; give every item an id of its own")
    return prompts


def load_tokenizer(config: Config) -> Any:
    """The model's own, with the chat template that is asked for. Raises JobError."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
    except (OSError, ValueError, RuntimeError) as e:
        raise unloadable(config.model, e) from e
    tokenizer.chat_template = config.template or tokenizer.chat_template
    if not tokenizer.chat_template:
        raise JobError(f"{config.model} has no chat template; choose an instruct model or add chat_template.jinja")
    return tokenizer


def unloadable(what: str, error: Exception) -> JobError:
    return JobError(f"cannot load {what} ({' '.join(str(error).split())[:300]}); give a folder or a Hub id")


def encode(prompts: Sequence[Prompt], tokenizer: Any, config: Config) -> list[Encoded]:
    """The prompts in tokens, each with room for an answer.

    A prompt near the end of the context gets a shorter answer, which then counts as truncated like any other: to refuse
    all items because of the longest, or to let the model write beyond its context, would tell less. Raises JobError
    where a prompt itself leaves no room, and for a chat that the template does not render.
    """
    from jinja2 import TemplateError
    from transformers import AutoConfig

    model = AutoConfig.from_pretrained(config.model, revision=config.revision).get_text_config()
    context = getattr(model, "max_position_embeddings", None)
    encoded = []
    for prompt in prompts:
        try:
            text = tokenizer.apply_chat_template(
                prompt.asked["messages"], tools=prompt.asked.get("tools"), tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, TypeError, ValueError, LookupError) as e:
            raise JobError(f"the chat template cannot render prompt {prompt.key[0]} ({e}); change one of them") from e
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        room = config.max_tokens if context is None else context - len(ids)
        encoded.append(Encoded(prompt, tuple(ids), min(config.max_tokens, room)))
    longest = max(len(each.ids) for each in encoded)
    too_long = sum(each.limit < 1 for each in encoded)
    if too_long:
        raise JobError(
            f"{too_long} of {len(encoded)} prompts fill the context of {context} tokens, the longest has {longest}; "
            "leave them out, or choose a model that reads more"
        )
    return encoded
