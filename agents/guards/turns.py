"""Counts the turns of a loop, keeps the last for handing in, and turns malformed calls into errors that go back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from agents.guards.course import HAND_IN, Course
from shared_memory.redaction import redact

LAST = f"[This is your last request: only `{HAND_IN}` is left. Hand in the best you have now.]"
MALFORMED = "not carried out: the arguments are no complete JSON object; send the call once more"
CUT_OFF = "not carried out: the answer met the limit on tokens before the arguments ended; write less in one call"

MOST_MALFORMED = 3
"""Times in a loop that a record may be malformed; each may have cost the longest answer there is. More are refused."""

Handler = Callable[[ModelRequest[Any]], ModelResponse[Any]]


class Turns(AgentMiddleware[Any, Any, Any]):
    """Outermost around the model: what it says here is what goes into the conversation.

    LangChain's own limit ends a loop without a word to the model, and its own answer to malformed arguments comes after
    the loop has ended where no other call stands beside them.
    """

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course
        self._malformed = 0
        """Times that a record came malformed."""

    def wrap_model_call(self, request: ModelRequest[Any], handler: Handler) -> ModelResponse[Any]:
        """One turn; after the last one it ends the loop."""
        course = self._course
        if course.asked >= course.steps:
            return ModelResponse(result=[AIMessage("", response_metadata={"request": course.request})])
        course.asked += 1
        last = course.asked == course.steps
        course.lines += filter(None, [course.warning(), LAST if last else ""])
        response = handler(request.override(tools=[]) if last else request)
        said, *others = response.result
        assert isinstance(said, AIMessage)  # noqa: S101 - it is what a chat model gives back
        handed_in = [call for call in said.tool_calls if call["name"] == HAND_IN]
        malformed = [call for call in said.invalid_tool_calls if call["name"] == HAND_IN]
        if last:  # nothing answers other calls any more
            said = said.model_copy(update={"tool_calls": handed_in, "invalid_tool_calls": malformed})
        course.judge(said)
        said, faults = self._repaired(said)
        result: Any = [said, *others, *faults]
        # LangChain takes several for a mistake, and goes on: how often one may be made is the loop's to say.
        self._malformed += bool(malformed)
        given = handed_in or (malformed if self._malformed > MOST_MALFORMED else [])
        records = [call["args"] for call in given]
        return ModelResponse(result=result, structured_response=records or None)

    def _repaired(self, said: AIMessage) -> tuple[AIMessage, list[ToolMessage]]:
        """What was said with every call well-formed, and the errors of those that were not.

        A malformed one goes back without its arguments: some providers refuse a conversation that has it in it.
        """
        if not said.invalid_tool_calls:
            return said, []
        reason = CUT_OFF if said.response_metadata.get("finish_reason") == "length" else MALFORMED
        calls, faults = list(said.tool_calls), []
        for call in said.invalid_tool_calls:
            name, key = call["name"] or "unknown", call["id"] or "unknown"
            calls.append({"type": "tool_call", "name": name, "args": {}, "id": key})
            faults.append(ToolMessage(reason, tool_call_id=key, name=name, status="error"))
            self._course.tell_call(name, redact(call["args"] or ""), error=reason)
        return said.model_copy(update={"tool_calls": calls, "invalid_tool_calls": []}), faults


def answered(messages: list[AnyMessage]) -> AIMessage:
    """The last thing that the model said."""
    return next(message for message in reversed(messages) if isinstance(message, AIMessage))
