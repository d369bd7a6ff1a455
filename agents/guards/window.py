"""Keeps a conversation within the model's window: old results go first, then old turns, and what was noted stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from langchain.agents.middleware import (
    AgentMiddleware,
    ClearToolUsesEdit,
    ModelRequest,
    ModelResponse,
    SummarizationMiddleware,
)
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool, tool

from agents.chat_model import MeteredChat
from agents.guards.course import Course
from agents.tool_outputs import READ_ON, Output, ToolFault, ToolOutputs, fenced
from shared_memory.errors import ContextExhausted
from shared_memory.records import canonical_digest
from shared_memory.redaction import redact

PROMPTS = Path(__file__).parents[1] / "prompts"
NOTE = "take_note"
"""The tool by which the model writes down what it will still need."""
LONGEST_NOTE = 1_000
"""Characters."""

RESULTS_KEPT = 3
"""Latest results of tools that are left when older ones are cleared."""
TURNS_KEPT = 0.25
"""Share of the room for the latest turns, when older ones are summed up."""
WORTH_CLEARING = 0.6
"""Where clearing results leaves more than this share of the room taken, turns are summed up too."""
HEADROOM = 0.9
"""Share of the room that is used: tokens are counted by the characters of a text."""

TOKENS_PER_CHARACTER = 1 / 3
"""Until the server has counted: cautious for English and code, and about right for a byte of Chinese."""
FEWEST_PER_CHARACTER = 1 / 4
OF_A_MESSAGE = 40
"""Characters that a message takes beside its text."""
SHOWN_OF_A_RESULT = 1_200
"""Characters of a result that whoever sums up is shown."""

CLEARED = "[cleared]"
CLEARED_BUT_KEPT = '[cleared; {tool}(handle="{handle}") shows it again]'

Handler = Callable[[ModelRequest[Any]], ModelResponse[Any]]


class Window(AgentMiddleware[Any, Any, Any]):
    """Shows the model of a conversation what fits; innermost around it.

    The clearing is LangChain's `ClearToolUsesEdit` and the summing up its `SummarizationMiddleware`. As middleware of
    their own they would work the other way round (turns are summed up before a result is cleared), copy the whole
    conversation for every request, and clear other results every time, which spoils the provider's prompt cache. Here
    what is shown changes only when it has to.
    """

    def __init__(self, chat: MeteredChat, window: int, fixed: int, outputs: ToolOutputs, course: Course) -> None:
        """window: tokens that the model can read and write. fixed: characters of what every request has beside
        messages: the system prompt and the tools.
        """
        super().__init__()
        self._chat, self._fixed, self._outputs, self._course = chat, fixed, outputs, course
        self._room = int(HEADROOM * (window - min(chat.asked.room_for_an_answer, window // 2)))
        self._rate = TOKENS_PER_CHARACTER
        self._counted = 0.0
        self._task = HumanMessage("")
        self._so_far = ""
        """What stands for the turns that were left out."""
        self._notes: list[str] = []
        """Those of turns that were left out."""
        self._shown: list[AnyMessage] = []
        """What is shown behind the task."""
        self._seen = 0
        """Messages of the conversation that were taken in."""
        self._characters = 0
        """Of the request as it stands."""

    def wrap_model_call(self, request: ModelRequest[Any], handler: Handler) -> ModelResponse[Any]:
        """Sends what fits. Where the server finds it too long all the same, it is shortened and sent once more.

        Raises ContextExhausted where that is too long too, or nothing is left to leave out.
        """
        self._take_in(request.messages)
        # Notes that a request was too long, so that a loop that runs again does not send it again.
        overflow = canonical_digest([self._course.request, "overflow"])[:16]
        if self._outputs.kept(overflow):
            self._shorten(request)
        elif self._size() > self._room:
            self._fit(request)
        try:
            response = handler(request.override(messages=self._messages()))
        except ContextExhausted:
            if not self._shown or self._outputs.kept(overflow):
                raise
            self._outputs.keep(overflow, Output(tool="", arguments={}, text="the request was too long"))
            self._shorten(request)
            response = handler(request.override(messages=self._messages()))
        self._count(response)
        return response

    def _take_in(self, messages: Sequence[AnyMessage]) -> None:
        if not self._seen:
            (self._task,), self._seen = [m for m in messages[:1] if isinstance(m, HumanMessage)], 1
            self._characters = self._fixed + _characters(self._task)
        new = messages[self._seen :]
        self._shown += new
        self._seen = len(messages)
        self._characters += sum(map(_characters, new))
        if self._course.lines:
            self._add("\n".join(self._course.lines))
            self._course.lines.clear()

    def _add(self, words: str) -> None:
        """Puts words of ours behind the last message, be it a tool's.

        Not into a message of their own: the chat templates of some open models take no user between a tool and the
        assistant.
        """
        last = self._shown[-1] if self._shown else self._task
        longer: Any = last.model_copy(update={"content": f"{last.content}\n\n{words}"})
        if self._shown:
            self._shown[-1] = longer
        else:
            self._task = longer
        self._weigh()

    def _messages(self) -> list[AnyMessage]:
        if not self._so_far:
            return [self._task, *self._shown]
        return [HumanMessage(f"{self._task.content}\n\n{self._so_far}"), *self._shown]

    def _size(self) -> int:
        """Tokens of the request as it stands."""
        return int(self._characters * self._rate)

    def _tokens(self, messages: Sequence[Any]) -> int:
        return int(sum(map(_characters, messages)) * self._rate)

    def _counter(self, messages: Iterable[Any]) -> int:
        return self._tokens(list(messages))

    def _count(self, response: ModelResponse[Any]) -> None:
        """Learns from the server's own count how many tokens a character has."""
        said = response.result[0]
        if isinstance(said, AIMessage) and said.usage_metadata:
            tokens = said.usage_metadata["input_tokens"]
            self._counted = max(self._counted, 1.1 * tokens / self._characters)
            self._rate = min(1.0, max(FEWEST_PER_CHARACTER, self._counted)) if self._counted else self._rate

    def _fit(self, request: ModelRequest[Any]) -> None:
        self._clear(RESULTS_KEPT)
        if self._size() > WORTH_CLEARING * self._room:
            self._sum_up(request, int(TURNS_KEPT * self._room))
        if self._size() > self._room:
            self._clear(0)

    def _shorten(self, request: ModelRequest[Any]) -> None:
        """For a request that was too long though it seemed to fit: the room is smaller than was thought."""
        self._room = min(self._room, int(0.8 * self._size()))
        self._clear(1)
        self._sum_up(request, int(TURNS_KEPT * self._room / 2))
        if self._size() > WORTH_CLEARING * self._room:
            self._clear(0)

    def _clear(self, keep: int) -> None:
        before = list(self._shown)
        edit = ClearToolUsesEdit(trigger=0, keep=keep, exclude_tools=(NOTE,), placeholder=CLEARED)
        edit.apply(self._shown, count_tokens=self._tokens)
        for place, (old, new) in enumerate(zip(before, self._shown, strict=True)):
            if new is old or not isinstance(old, ToolMessage):
                continue
            words = CLEARED_BUT_KEPT.format(tool=READ_ON, handle=old.artifact) if old.artifact else CLEARED
            self._shown[place] = old if len(old.text) <= len(words) else new.model_copy(update={"content": words})
        self._weigh()

    def _sum_up(self, request: ModelRequest[Any], keep: int) -> None:
        """Puts a summary in the place of all but the latest turns: so many tokens of them stay, and one at least."""
        middleware: SummarizationMiddleware[Any, Any] = SummarizationMiddleware(
            self._chat, trigger=("messages", 1), keep=("tokens", max(1, keep)), token_counter=self._counter,
            trim_tokens_to_summarize=None, summarizer=self._summary,
        )  # fmt: skip
        update = middleware.before_model({"messages": self._shown}, request.runtime)
        if update is not None:
            _, _, *self._shown = update["messages"]
        self._weigh()

    def _weigh(self) -> None:
        self._characters = self._fixed + sum(map(_characters, self._messages()))

    def _summary(self, messages: list[AnyMessage]) -> str:
        """What the model makes of turns; also puts it, and what was noted in them, where it is shown from now on."""
        self._notes += [
            str(call["args"].get("text", ""))
            for message in messages
            if isinstance(message, AIMessage)
            for call in message.tool_calls
            if call["name"] == NOTE
        ]
        whole = "\n\n".join(filter(None, [self._so_far, *(_written(message) for message in messages)]))
        handle = canonical_digest([self._course.request, "conversation"])[:16]
        notes = "\n".join(f"- {note}" for note in self._notes)
        self._outputs.keep(handle, Output(tool="", arguments={}, text=redact(f"{whole}\n\nNotes:\n{notes}")))
        said = self._said_in_short(messages) or _calls_of(messages)
        most = int(self._room * 0.15 / self._rate)
        words = f"Summary:\n{said[:most]}\n\nNotes:\n{notes[-most:] or '- none'}"
        self._so_far = (PROMPTS / "so_far.md").read_text("utf-8").format(handle=handle, fenced=fenced(words)).strip()
        return said or "-"

    def _said_in_short(self, messages: Sequence[AnyMessage]) -> str:
        """The model's summary; empty where even that is more than it can read."""
        shown = [self._so_far, *(_written(message, SHOWN_OF_A_RESULT) for message in messages)]
        text, most = "\n\n".join(filter(None, shown)), int(0.6 * self._room / self._rate)
        if len(text) > most:  # its beginning has the summary before, its end the latest
            text = f"{text[: most // 3]}\n…\n{text[-most * 2 // 3 :]}"
        asked = f"Its task:\n\n{str(self._task.content)[: most // 3]}\n\nSo far:\n\n{fenced(text)}"
        try:
            system = SystemMessage((PROMPTS / "summary.md").read_text("utf-8").strip())
            return self._chat.invoke([system, HumanMessage(asked)]).text.strip()
        except ContextExhausted:
            return ""


def note_taker() -> BaseTool:
    """The tool by which the model writes down what it will still need; the note is the call itself."""

    @tool(NOTE)
    def take_note(text: str) -> str:
        """Write down what you will still need when this conversation has been cut: a fact, with its source."""
        if len(text) > LONGEST_NOTE:
            raise ToolFault(f"a note has at most {LONGEST_NOTE} characters; this has {len(text)}: say it in fewer")
        return "noted"

    return take_note


def _characters(message: Any) -> int:
    """What a message takes, in bytes: a sign of Chinese has three, and is about one token."""
    text = message.content if isinstance(message.content, str) else json.dumps(message.content, default=str)
    calls = getattr(message, "tool_calls", ())
    thoughts = message.additional_kwargs.get("reasoning_content") or ""
    more = "".join(f"{call['name']}{call['args']}" for call in calls) + str(thoughts)
    return len(text.encode()) + len(more.encode()) + OF_A_MESSAGE * (1 + len(calls))


def _written(message: AnyMessage, longest: int | None = None) -> str:
    """A message as a line of a record."""
    if isinstance(message, ToolMessage):
        return f"result of {message.name}: {message.text[:longest]}"
    calls = [f"calls {call['name']}({json.dumps(call['args'], ensure_ascii=False)})" for call in message.tool_calls] \
        if isinstance(message, AIMessage) else []  # fmt: skip
    return "\n".join(filter(None, [f"{message.type}: {message.text}" if message.text else "", *calls]))


def _calls_of(messages: Sequence[AnyMessage]) -> str:
    """What there is to say without a model: the latest calls."""
    calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    lines = [f"called {call['name']}({json.dumps(call['args'], ensure_ascii=False)[:120]})" for call in calls[-40:]]
    return "\n".join(lines)
