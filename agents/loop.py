"""A role's loop: a language model with tools, until it hands in one typed record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agents.llm import AGAIN, ATTEMPTS, InvalidAnswer, read_record, strict_schema
from agents.provider import Message
from agents.workbench import Workbench
from shared_memory.records import Record

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

CALL = "hand_in"
"""The tool by which a record is handed in."""

R = TypeVar("R", bound=Record)


class Conversation(Protocol):
    """The first messages; `call` names the tool by which the record is handed in, if there is one."""

    def __call__(self, *, call: str = "") -> list[Message]: ...


def work(
    bench: Workbench,
    role: str,
    kind: type[R],
    messages: Conversation,
    tools: Sequence[BaseTool],
    fault: Callable[[R], str],
) -> R:
    """A record of `kind` that the model hands in when it has looked things up.

    `fault` says in a sentence what is wrong with one that is well-formed; empty accepts it. One that is refused is sent
    back once, with the reason. Without tools it is one structured call. Raises what `LanguageModel.ask` raises.
    """
    if not tools:
        return bench.model.ask(kind, messages(), fault)
    from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

    system, user = messages(call=CALL)
    agent = _agent(bench, role, kind, system["content"], tools)
    said: list[AnyMessage] = [HumanMessage(user["content"])]
    asked: list[str] = []
    reason = ""
    for _ in range(ATTEMPTS):
        state = agent.invoke({"messages": said}, {"recursion_limit": 10 * bench.steps})
        said = state["messages"]
        last = next(message for message in reversed(said) if isinstance(message, AIMessage))
        asked.append(last.response_metadata["request"])
        read = read_record(state.get("structured_response") or last.text, kind, fault)
        if not isinstance(read, str):
            return read
        reason = read
        said = [*said, HumanMessage(AGAIN.format(reason=reason))]
    raise InvalidAnswer(f"`{bench.model.name}` gave no usable {kind.__name__}: {reason}", "+".join(asked))


def _agent(bench: Workbench, role: str, kind: type[Record], system: str, tools: Sequence[BaseTool]) -> Any:
    from langchain.agents import create_agent
    from langchain.agents.structured_output import ToolStrategy

    from agents.chat_model import MeteredChat

    schema = {**strict_schema(kind), "title": CALL, "description": "Hand in what you were asked for, and end."}
    return create_agent(
        MeteredChat(asked=bench.model),
        tools=tools,
        system_prompt=system,
        response_format=ToolStrategy(schema, tool_message_content="It was handed in."),
        checkpointer=False,
        name=role,
    )
