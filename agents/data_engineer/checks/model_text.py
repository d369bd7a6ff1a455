"""Rows as a model reads them: its chat template, its tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agents.base_model import find_tokenizer
from agents.data_engineer.checks.chat_template import ChatTemplate, Refused, chat_template_of
from agents.data_engineer.formats.rows import Message, Row
from shared_memory.errors import BadInput, Unavailable

PROBES = {"tools": "probe_of_a_tool_7f3a", "tool calls": "probe_of_a_call_7f3a"}
"""Names that no conversation holds: a text without one was rendered without what has that name."""


class ModelText:
    """A model's tokenizer and chat template; without a template, messages are joined by line breaks."""

    def __init__(self, model: str, revision: str = "") -> None:
        """`model` is a folder or a Hub id. Raises BadInput or Unavailable where there is no tokenizer to be used."""
        folder = find_tokenizer(model, revision)
        self.name = model
        self.template: ChatTemplate | None = chat_template_of(folder)
        self._tokenizer = _tokenizer(folder)
        self._leaves_out: dict[tuple[tuple[str, bool], ...], tuple[str, ...]] = {}

    def rendered(self, row: Row, reply: Sequence[Message]) -> str:
        """A row's prompt with one of its replies. Raises `chat_template.Refused`."""
        return self._text((*row.prompt, *reply), row, False) if row.prompt else row.text

    def prompt(self, row: Row) -> str:
        """What stands before the reply. Raises `chat_template.Refused`."""
        return self._text(row.prompt, row, True)

    def left_out(self, row: Row) -> tuple[str, ...]:
        """What of a row's `tools` and `tool calls` its chat template does not write; the rest is rendered silently.

        Tried once for rows whose turns are alike.
        """
        turns = [(message.role, bool(message.tool_calls)) for message in row.prompt + row.completion]
        if self.template is None or not (row.tools or any(calls for _, calls in turns)):
            return ()
        shape = (("tools", bool(row.tools)), *turns)
        if shape not in self._leaves_out:
            self._leaves_out[shape] = _left_out(self.template, row)
        return self._leaves_out[shape]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; those at its ends are added where no template writes them."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=self.template is None)
        return [len(entry) for entry in encoded]

    def _text(self, messages: Iterable[Message], row: Row, add_generation_prompt: bool) -> str:
        if self.template is None:
            return "\n".join(message.content for message in messages)
        tools = json.loads(row.tools) if row.tools else None
        plain = [message.plain() for message in messages]
        return self.template.render(plain, tools=tools, add_generation_prompt=add_generation_prompt)


def _left_out(template: ChatTemplate, row: Row) -> tuple[str, ...]:
    messages = [message.plain() for message in row.prompt + row.completion]
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    tools = json.loads(row.tools) if row.tools else None
    named = {"tools": tools or [], "tool calls": calls}
    for what, entries in named.items():
        for entry in entries:
            inner = entry.get("function", entry)
            if isinstance(inner, dict):
                inner["name"] = PROBES[what]
    try:
        text = template.render(messages, tools=tools)
    except Refused:
        return ()
    return tuple(what for what, entries in named.items() if entries and PROBES[what] not in text)


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:
            raise BadInput(f"{file} is no tokenizer ({error}); fetch the model again") from error
    else:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise Unavailable(
                f"{folder} has no tokenizer.json, and to make one takes transformers; `pip install 'postgrad[train]'`"
            ) from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
        except (OSError, ValueError, AttributeError, ImportError) as error:
            raise BadInput(
                f"the tokenizer in {folder} cannot be read ({str(error).splitlines()[0]}); fetch it again"
            ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
