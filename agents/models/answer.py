"""What is said to a language model and what comes back, whoever it was that answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_memory.errors import Unavailable
from shared_memory.records import Record

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


class Refused(Unavailable):
    """The request was turned down, or met no server: nothing was generated, so nothing is billed."""


class ToolsRefused(Refused):
    """The server or the model knows no tools; the same may be asked for in words."""
