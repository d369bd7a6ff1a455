"""What is said to a language model and what comes back, whoever it was that answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from shared_memory.errors import Unavailable
from shared_memory.records import Record
from shared_memory.redaction import redact_plain

Message = Mapping[str, str]
"""`role` and `content`."""


class Answer(Record):
    """What a model said, and what it took."""

    text: str
    tokens: int
    """Of the request and the answer; 0 where the server does not say."""
    prompt_tokens: int = 0
    """Those of the request."""
    cached_tokens: int = 0
    """Those of the request that the provider had in its cache."""
    truncated: bool = False
    """It met the limit on tokens before it ended by itself."""
    usd_micro: int | None
    """By the home's prices, else by LiteLLM's price map, rounded up; None where neither has one."""
    model: str = ""
    """That answered, by its name in the goal."""
    message: dict[str, Any] | None = None
    """The whole of it, as LangChain writes a message down: calls of tools, and thoughts that have to be sent back."""
    booking: str = ""
    """Key under which it is paid for."""


@dataclass(frozen=True)
class Between:
    """What is called between two tries of a request; either may forbid the next one by raising."""

    lost: Callable[[], None]
    """Where the last one may be billed all the same."""
    heed: Callable[[], None]
    """Every second until the next one."""


class Refused(Unavailable):
    """The request was turned down, or met no server: nothing was generated, so nothing is billed."""


class ToolsRefused(Refused):
    """The server or the model knows no tools; the same may be asked for in words."""


def redacted(answer: Answer) -> Answer:
    """An answer without secrets but in its thoughts: these are signed, and shown to nobody.

    Nor has it the calls as the server wrote them, which it has as LangChain does.
    """
    data = answer.message["data"] if answer.message else {}
    shown = {key: data[key] for key in ("content", "tool_calls", "invalid_tool_calls") if key in data}
    text, shown = redact_plain([answer.text, shown])
    if answer.message is None:
        return answer.model_copy(update={"text": text})
    more = {key: value for key, value in data["additional_kwargs"].items() if key != "tool_calls"}
    message = _for_a_file({**answer.message, "data": {**data, **shown, "additional_kwargs": more}})
    return answer.model_copy(update={"text": text, "message": message})


def _for_a_file(value: dict[str, Any]) -> dict[str, Any]:
    """Plain data as it comes back from disk: half of a surrogate pair fits in no file, and NaN in no JSON."""
    written = json.dumps(to_jsonable_python(value), ensure_ascii=False).encode(errors="replace")
    read: dict[str, Any] = json.loads(written, parse_constant=lambda name: None)
    return read


def in_full(said: Any) -> str:
    """What a reply says, with the calls of tools that a server has taken out of the text put behind it again.

    In the form that Hermes and Qwen models write them in [NousResearch/Hermes-Function-Calling].
    """
    calls = [json.dumps({"name": call["name"], "arguments": call["args"]}) for call in said.tool_calls]
    return "\n".join(filter(None, [said.text, *(f"<tool_call>\n{call}\n</tool_call>" for call in calls)]))
