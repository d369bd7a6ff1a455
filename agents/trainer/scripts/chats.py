"""Rows to train on: what each kind has to hold, and whether the model's chat template can render it."""

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field, Json, field_validator
from settings import Strict, fail, problem

REFUSALS = (TemplateError, TypeError, ValueError, LookupError)
"""What a chat template raises that was not written for such a conversation."""
REPLIES = ("completion", "chosen", "rejected")
"""Columns that go on from the prompt."""

Turns = list[dict[str, Any]]
"""Messages as plain data."""
Rows = list[dict[str, Any]]


class Message(BaseModel):
    """A turn; what else it holds (`tool_calls`, `name`, `reasoning_content`, ...) is for the chat template."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: str


class Chat(BaseModel):
    prompt: list[Message] = Field(min_length=1)
    tools: Json[list[dict[str, Any]]] | None = None


class Exchange(Chat):
    """A prompt and the reply that is learned."""

    completion: list[Message] = Field(min_length=1)


class Labelled(Exchange):
    """A reply, and whether it is a good one."""

    label: bool


class Pair(Chat):
    chosen: list[Message] = Field(min_length=1)
    rejected: list[Message] = Field(min_length=1)


class Question(Chat):
    """A prompt that the model answers itself; other columns are what rewards compare the answer with."""

    model_config = ConfigDict(extra="allow")

    @field_validator("tools")
    @classmethod
    def _nothing_answers_a_call(cls, tools: Any) -> Any:
        if tools:
            raise ValueError("there is nothing that could answer a call while the model samples; train calls with sft")
        return tools


class Text(Strict):
    """All of it is learned."""

    text: str = Field(pattern=r"\S")


def read_rows(path: Path, kinds: tuple[type[BaseModel], ...]) -> Rows:
    """The rows to train on, all of one kind. Exits 2 at the first that has not what the method needs."""
    rows: Rows = []
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                is_text = Text in kinds and isinstance(row, dict) and "text" in row
                if rows and is_text != ("text" in rows[0]):
                    raise ValueError("texts and conversations are mixed, and differ in what is learned")
                rows.append((Text if is_text else kinds[0]).model_validate(row).model_dump())
    except (OSError, ValueError) as error:
        needed = " and ".join(name for name, field in kinds[0].model_fields.items() if field.is_required())
        texts = ", or all of text" if Text in kinds else ""
        fail(f"{path}, row {len(rows) + 1}: {problem(error)}", f"give rows of {needed}, lists of messages{texts}")
    if not rows:
        fail(f"{path} has no rows", "give at least one")
    return rows


def require_rendering(rows: Rows, tokenizer: Any, data: str, model: str) -> None:
    """Exits 2 where the chat template refuses a row, or leaves a part of it out without a word."""
    if not tokenizer.chat_template:
        fail(f"the tokenizer of {model} has no chat template", "add chat_template.jinja to the model folder")
    replies = [name for name in REPLIES if name in rows[0]]
    for number, row in enumerate(rows, 1):
        chats = [row[name] for name in replies] or [[]]
        try:
            lost = [what for reply in chats for what in left_out(row["prompt"], reply, row["tools"], tokenizer)]
        except REFUSALS as error:
            lost = [f"it ({problem(error)})"]
        if lost:
            what = f"{data}, row {number}: the chat template of {model} does not render {lost[0]}"
            fail(what, "choose a model whose template does, or change or drop the row")


def left_out(prompt: Turns, reply: Turns, tools: Turns | None, tokenizer: Any) -> Iterator[str]:
    """What of a conversation the chat template makes no use of. Raises one of REFUSALS."""

    def rendered(turns: Turns, tools: Turns | None) -> Any:
        return tokenizer.apply_chat_template(turns, tools=tools, tokenize=False)

    def without(role: str, key: str, start: int = 0) -> Turns:
        changed = [turn | {key: ""} if turn["role"] == role and turn.get(key) else turn for turn in chat[start:]]
        return chat[:start] + changed

    chat = prompt + reply
    whole = rendered(chat, tools)
    less = {
        "tools": (chat, None),
        "tool_calls": (without("assistant", "tool_calls"), tools),
        "what tools answer": (without("tool", "content"), tools),
        # What was thought before earlier turns is left out on purpose by many templates.
        "reasoning_content": (without("assistant", "reasoning_content", len(prompt)), tools),
    }
    for what, rest in less.items():
        with suppress(*REFUSALS):
            if rest != (chat, tools) and rendered(*rest) == whole:
                yield what


def prompt_tokens(row: dict[str, Any], tokenizer: Any) -> list[int]:
    """The prompt as the model meets it when it is to answer."""
    chat = tokenizer.apply_chat_template(row["prompt"], tools=row["tools"], add_generation_prompt=True)
    return list(chat["input_ids"])


def completion_tokens(row: dict[str, Any], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Prompt and completion, parted where the rendered prompt and the rendered whole begin to differ, as TRL does.

    The completion ends with its last EOS token, where a model that writes it stops: templates go on with a line end.
    """
    prompt = prompt_tokens(row, tokenizer)
    whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tools=row["tools"])["input_ids"]
    same = next((n for n, pair in enumerate(zip(prompt, whole, strict=False)) if pair[0] != pair[1]), len(prompt))
    ends = [n for n, token in enumerate(whole, 1) if n > same and token == tokenizer.eos_token_id]
    return whole[:same], whole[same : ends[-1] if ends else None]


def mixed(config: Any, rows: Rows, tokenizer: Any) -> Rows:
    """In random order, once: KTO compares neighbours, and so TRL takes the rows as they come."""
    return random.Random(config.seed).sample(rows, len(rows))


def with_room(config: Any, rows: Rows, tokenizer: Any) -> Rows:
    """Those whose prompts leave room for a completion."""
    room = config.max_length - config.max_completion_length
    kept = [row for row in rows if len(prompt_tokens(row, tokenizer)) <= room]
    return enough(kept, config.batch // config.num_generations, f"prompts of at most {room} tokens")


def in_tokens(config: Any, rows: Rows, tokenizer: Any) -> Rows:
    """Prompts and completions apart, cut at max_length; those without a completion left go."""
    room = config.max_length - (config.max_completion_length if config.on_policy else 1)
    parted = [completion_tokens(row, tokenizer) for row in rows]
    kept = [
        {"prompt": row["prompt"], "prompt_ids": prompt, "completion_ids": completion[: config.max_length - len(prompt)]}
        for row, (prompt, completion) in zip(rows, parted, strict=True)
        if len(prompt) <= room
    ]
    return enough(kept, config.batch, f"prompts of at most {room} tokens")


def enough(rows: Rows, update: int, what: str) -> Rows:
    """The rows. Exits 2 where they are too few for one weight update: TRL would train nothing, and not say so."""
    if len(rows) < update:
        fail(f"{len(rows)} rows have {what}, and a weight update takes {update}", "give more, or a smaller batch")
    return rows
