"""A LanguageModel as LangChain takes one: an agent's requests are kept, metered and redacted like all others."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, PrivateAttr

from agents.llm import LanguageModel
from agents.tools.offer import LONGEST_NAME
from agents.workbench import LONGEST_TOLD, Tell, silent
from shared_memory.records import MICRO_USD
from shared_memory.redaction import redact_plain


class MeteredChat(BaseChatModel):
    """What `create_agent` and LangChain's middleware call."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    asked: LanguageModel
    role: str = ""
    tell: Tell = silent
    """Told of every turn, those that are on disk already among them."""

    _converted: dict[tuple[int, ...], list[dict[str, Any]]] = PrivateAttr(default_factory=dict)
    """Tools as they are sent, by which they are; those of an agent live as long as it does."""

    @property
    def _llm_type(self) -> str:
        return "postgrad"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        more = {"stop": stop} if stop else {}
        began = time.perf_counter()
        message = _addressed(self.asked.reply(messages, {**kwargs, **more}))
        self._tell_turn(message, time.perf_counter() - began)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with these tools in every request; see langchain_core's BaseChatModel."""
        key = tuple(map(id, tools))
        if key not in self._converted:
            # What people's tools say of themselves may hold a secret, as everything that was written by hand.
            self._converted[key] = redact_plain([convert_to_openai_tool(tool) for tool in tools])
        choice = {"tool_choice": tool_choice} if tool_choice else {}
        return self.bind(tools=self._converted[key], **choice, **kwargs)

    def _tell_turn(self, message: AIMessage, seconds: float) -> None:
        took = message.response_metadata
        micro = took["usd_micro"]
        self.tell(
            "turn", role=self.role, model=took["model"] or self.asked.name, request=took["request"],
            tokens=took["tokens"], usd=None if micro is None else micro / MICRO_USD, seconds=round(seconds, 3),
            kept=took["kept"], text=message.text[:LONGEST_TOLD],
            calls=[call["name"] for call in (*message.tool_calls, *message.invalid_tool_calls)],
        )  # fmt: skip


def _addressed(message: AIMessage) -> AIMessage:
    """A reply whose calls each have an id of their own, which some servers forget, and a name that goes back again.

    Providers refuse a conversation with a name in it that no tool can have. No arguments are empty ones.
    """
    calls, invalid, ids = [], [], set[str]()
    for place, call in enumerate([*message.tool_calls, *message.invalid_tool_calls]):
        key = call["id"] or ""
        if not key or key in ids:
            key = f"call-{message.response_metadata['request'][:12]}-{place}"
        ids.add(key)
        own = {"name": re.sub(r"[^A-Za-z0-9_-]", "_", call["name"] or "unknown")[:LONGEST_NAME], "id": key}
        if call["type"] == "tool_call":
            calls.append({**call, **own})
        elif not str(call["args"] or "").strip() and call["name"]:
            calls.append({"type": "tool_call", "args": {}, **own})
        else:
            invalid.append({**call, **own})
    return message.model_copy(update={"tool_calls": calls, "invalid_tool_calls": invalid})
