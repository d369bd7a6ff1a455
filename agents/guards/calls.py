"""Around every call of a tool: replayed from disk or carried out, cut, fenced, counted and told."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ToolCallRequest, ToolErrorMiddleware
from langchain_core.messages import ToolMessage
from langgraph.types import Command

from agents.guards.course import Course
from agents.provider import Refused
from agents.tool_outputs import ToolFault, ToolOutputs, handle_of, output_of
from shared_memory.errors import BudgetSpent, ContextExhausted, PostgradError, TimeOver
from shared_memory.redaction import redact_plain

ENDS = (BudgetSpent, TimeOver, ContextExhausted, Refused)
"""What ends the run and not the call, when it comes out of a tool: its model's cap, time, window or account."""
LONGEST_ERROR = 2_000
"""Characters of an error that are shown."""

Handler = Callable[[ToolCallRequest], ToolMessage | Command[Any]]


class Calls(AgentMiddleware[Any, Any, Any]):
    """Outermost around a tool: what comes out of here is what the model is shown."""

    def __init__(self, course: Course, outputs: ToolOutputs, ours: Collection[str]) -> None:
        """ours: names of tools of the loop's own: what they give back is as it should be, and is made anew."""
        super().__init__()
        self._course, self._outputs, self._ours = course, outputs, ours

    def wrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage | Command[Any]:
        """The result of one call; raises what ends the run."""
        call, course = request.tool_call, self._course
        handle = handle_of(course.request, call)
        refused = course.refused.get(handle)
        if refused:
            course.came_back(handle, refused)
            course.tell_call(call["name"], redact_plain(call["args"]), error=refused)
            return _message(call, refused, failed=True)
        output, began = self._outputs.kept(handle), time.perf_counter()
        kept = output is not None
        if output is None:
            said = handler(request)
            if isinstance(said, Command):
                return said
            output = output_of(call, _text(said), failed=said.status == "error")
        seconds = time.perf_counter() - began
        mine = call["name"] in self._ours
        if not kept and not mine:
            self._outputs.keep(handle, output)
        course.came_back(handle, output.text)
        course.tell_call(
            call["name"], output.arguments, handle, len(output.text), seconds=round(seconds, 3), kept=kept,
            error=output.text[:LONGEST_ERROR] if output.failed else "",
        )  # fmt: skip
        shown = output.text if mine else self._outputs.shown(handle, output)
        return _message(call, shown, failed=output.failed, handle="" if mine else handle)


def errors_of_tools() -> ToolErrorMiddleware:
    """LangChain's boundary around a tool: its error is that call's own, and its siblings' results are kept."""
    return ToolErrorMiddleware(_words)


def _words(error: Exception, request: ToolCallRequest) -> str | None:
    """An error as the model is told it; None lets it end the run."""
    if isinstance(error, ENDS):
        return None
    words = str(error) if isinstance(error, ToolFault | PostgradError) else f"{type(error).__name__}: {error}"
    return f"`{request.tool_call['name']}` failed: {words}"[:LONGEST_ERROR]


def _text(message: ToolMessage) -> str:
    """The text of a result; a word for each part that is none."""
    if isinstance(message.content, str):
        return message.content
    parts = (part if isinstance(part, str) else _part(part) for part in message.content)
    return "\n".join(parts)


def _part(part: dict[str, Any]) -> str:
    return str(part["text"]) if part.get("type") == "text" else f"(a part of type {part.get('type')}, left out)"


def _message(call: Any, text: str, *, failed: bool, handle: str = "") -> ToolMessage:
    return ToolMessage(
        text, tool_call_id=call["id"], name=call["name"], status="error" if failed else "success", artifact=handle
    )
