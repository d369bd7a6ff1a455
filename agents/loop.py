"""A role's loop: a language model with tools, until it hands in one typed record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agents.llm import ATTEMPTS, InvalidAnswer, read_record, strict_schema
from agents.provider import Answer, Message, ToolsRefused
from agents.workbench import LONGEST_TOLD, WINDOW, Workbench
from shared_memory.records import MICRO_USD, Record

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage
    from langchain_core.tools import BaseTool

    from agents.guards.course import Course

RULES = Path(__file__).parent / "prompts" / "tools.md"
"""What a model is told of its tools, behind the role's system prompt."""
REFUSED = "That is refused: {reason}\n\nCorrect it, and call `{call}` once more with the whole of it."
SEVERAL = "several records came at once, each of them another; hand in one"
TALK = "Nobody reads that. Call a tool, or hand in by calling `{call}`."
MOST_TALK = 3
"""Times in a loop that a model may say something and call nothing, where its server cannot bind it to a call."""

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
    back once, with the reason. Without tools, or where the model's server takes none, it is one structured call. Raises
    what `LanguageModel.ask` raises.

    A loop that runs again after a crash sends no request whose answer is on disk, and runs no tool whose result is.
    """
    if tools:
        with suppress(ToolsRefused):
            return _Loop(bench, role, kind, messages, tools).until_handed_in(kind, fault)
    began = time.perf_counter()

    def tell(request: str, answer: Answer, kept: bool) -> None:
        nonlocal began
        now, usd = time.perf_counter(), None if answer.usd_micro is None else answer.usd_micro / MICRO_USD
        bench.tell(
            "turn", role=role, model=answer.model, request=request, tokens=answer.tokens, usd=usd,
            seconds=round(now - began, 3), kept=kept, text=answer.text[:LONGEST_TOLD], calls=[],
        )  # fmt: skip
        began = now

    return bench.model.ask(kind, messages(), fault, tell)


class _Loop:
    """One loop: its agent, and the conversation so far."""

    def __init__(
        self, bench: Workbench, role: str, kind: type[Record], messages: Conversation, tools: Sequence[BaseTool]
    ) -> None:
        from langchain_core.messages import HumanMessage

        from agents.guards.course import HAND_IN, Course

        system, user = messages(call=HAND_IN)
        rules = RULES.read_text("utf-8").format(steps=bench.steps, call=HAND_IN).strip()
        self._course = Course(role, bench.steps, bench.tell, bench.limits)
        self._agent = _agent(bench, role, kind, f"{system['content']}\n\n{rules}", tools, self._course)
        self._name, self._call = bench.model.name, HAND_IN
        self._said: list[AnyMessage] = [HumanMessage(user["content"])]

    def until_handed_in(self, kind: type[R], fault: Callable[[R], str]) -> R:
        refused: list[str] = []
        talked = 0
        while True:
            given, text = self._run()
            several = any(each != given[0] for each in given)
            read = SEVERAL if several else read_record(given[0] if given else text, kind, fault)
            if not isinstance(read, str):
                return read
            if not given and "{" not in text and talked < MOST_TALK and self._course.asked < self._course.steps:
                talked += 1
                self._answer(TALK.format(call=self._call))
                continue
            refused.append(self._course.request)
            if len(refused) == ATTEMPTS:
                message = f"`{self._name}` gave no usable {kind.__name__}: {read}"
                raise InvalidAnswer(message, "+".join(refused))
            self._course.steps = max(self._course.steps, self._course.asked + 1)
            self._answer(REFUSED.format(reason=read, call=self._call))

    def _run(self) -> tuple[list[str | dict[str, Any]], str]:
        """What the agent hands in, and what it says with it; nothing is handed in where it calls nothing any more."""
        from agents.guards.turns import answered

        # In a context of its own: inside a run's graph it would take over that one's durability, and has no
        # checkpointer.
        config = {"recursion_limit": 4 * self._course.steps + 20}
        state = Context().run(self._agent.invoke, {"messages": self._said}, config)
        self._said = state["messages"]
        return state.get("structured_response") or [], answered(self._said).text

    def _answer(self, words: str) -> None:
        """Sends back what was said last."""
        from langchain_core.messages import AIMessage, HumanMessage

        last = self._said[-1]
        if isinstance(last, AIMessage) and last.content:
            self._said = [*self._said, HumanMessage(words)]
            return
        if isinstance(last, AIMessage):  # nothing was said: the loop was at its end, or the model had no words
            self._said = self._said[:-1]
        self._course.lines.append(words)


def _agent(
    bench: Workbench, role: str, kind: type[Record], system: str, tools: Sequence[BaseTool], course: Course
) -> Any:
    from langchain.agents import create_agent
    from langchain.agents.structured_output import ToolStrategy
    from langchain_core.utils.function_calling import convert_to_openai_tool

    from agents.chat_model import MeteredChat
    from agents.guards.calls import Calls, errors_of_tools
    from agents.guards.course import HAND_IN
    from agents.guards.turns import Turns
    from agents.guards.window import Window, note_taker
    from agents.tool_outputs import ToolOutputs

    window = bench.model.window or WINDOW
    outputs = ToolOutputs(bench.outputs, min(bench.longest_output, window // 3))
    ours = [outputs.reader(), note_taker()]
    schema = {**strict_schema(kind), "title": HAND_IN, "description": "Hand in what you were asked for, and end."}
    described = [schema, *(convert_to_openai_tool(tool) for tool in (*tools, *ours))]
    chat = MeteredChat(asked=bench.model, role=role, tell=bench.tell)
    fixed = len(system) + len(json.dumps(described))
    return create_agent(
        chat,
        tools=[*tools, *ours],
        system_prompt=system,
        response_format=ToolStrategy(schema, tool_message_content="It was handed in."),
        middleware=[
            Turns(course),
            Calls(course, outputs, [tool.name for tool in ours]),
            errors_of_tools(),
            Window(chat, window, fixed, outputs, course),
        ],
        checkpointer=False,
    )
