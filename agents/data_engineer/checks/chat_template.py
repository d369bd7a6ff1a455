"""Renders a conversation with a model's own chat template, as transformers' `apply_chat_template` does.

Written here because importing transformers takes seconds and is no part of the core. The template is other people's
code: it runs in Jinja's immutable sandbox and sees nothing but plain data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared_memory.errors import BadInput

TOKEN_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
_FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a template raises that meets a conversation it was not written for."""


class Refused(ValueError):
    """A conversation that the template does not render, and why."""


class ChatTemplate:
    """A chat template with the special tokens that it names."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        """Raises BadInput where `source` is no Jinja template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            autoescape=False,
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except (TemplateError, RecursionError) as error:
            raise BadInput(
                f"the model's chat template is no Jinja template ({error}); mend it, or fetch it again"
            ) from error
        self._tokens = dict(tokens)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Any = None, add_generation_prompt: bool = False
    ) -> str:
        """The conversation as the model reads it. Raises Refused with the template's reason."""
        try:
            return self._template.render(
                messages=list(messages), tools=tools, documents=None, add_generation_prompt=add_generation_prompt,
                **self._tokens,
            )  # fmt: skip
        except _FAILURES as error:
            raise Refused(" ".join(str(error).split()) or type(error).__name__) from error


def chat_template_of(folder: Path) -> ChatTemplate | None:
    """The chat template of a model's folder; None where it has none. Raises BadInput where its files are broken."""
    config = _json(folder / "tokenizer_config.json")
    named = _json(folder / "special_tokens_map.json") | config
    tokens = {name: text for name in TOKEN_NAMES if (text := _token(named.get(name)))}
    file = folder / "chat_template.jinja"
    source = (
        file.read_text(encoding="utf-8")
        if file.is_file()
        else _json(folder / "chat_template.json").get("chat_template", config.get("chat_template"))
    )
    if isinstance(source, list):  # several, by name
        source = next((entry.get("template") for entry in source if entry.get("name") == "default"), None)
    return ChatTemplate(source, tokens) if isinstance(source, str) else None


def _token(value: Any) -> str:
    """A special token, which is a text or an object with its text."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not readable JSON ({error}); fetch the model again") from error
    return value if isinstance(value, dict) else {}


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Without Jinja's escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


class _Generation(Extension):
    """`{% generation %}` marks what the assistant writes; for the text it makes no difference."""

    tags = {"generation"}  # noqa: RUF012 – Jinja's own declaration

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
