"""Keeps a conversation within the model's window: old results go first, then old turns, and what was noted stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

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
HEADROOM = 0.9
"""Share of the room that is used: tokens are counted by the characters of a text."""
TURNS_KEPT = 0.25
"""Share of what is free for turns that the latest ones may take, when older ones are summed up."""
SUMMARY = 0.15
"""Share of it that the summary may take, and that notes may."""
WORTH_CLEARING = 0.6
"""Where clearing results leaves more than this share of it taken, turns are summed up too."""
A_RESULT = 0.25
"""Share of it that one result of a tool may take."""
RESULTS = 0.4
"""Share of it that all results of one turn may: none is cleared before the model has seen it."""
LEAST_FREE = 0.1
"""Share of the room that is free for turns, however long the task is."""
FEWEST_SHOWN = 500
"""Bytes of a result that are shown, however little is free."""

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
T = TypeVar("T")


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
        self._longest = outputs.longest
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
        if self._size() > self._taken + self._free:
            self._fit(request)

        def send() -> ModelResponse[Any]:
            return handler(request.override(messages=self._messages()))

        response = self._unless_too_long("turn", send) if self._shown else send()
        if response is None:
            self._shorten(request)
            response = send()
        self._learn_from(response)
        return response

    def _unless_too_long(self, what: str, send: Callable[[], T]) -> T | None:
        """What comes of a request; None where it was too long, which is noted for a loop that runs again."""
        mark = canonical_digest([self._course.request, what])[:16]
        if self._outputs.kept(mark):
            return None
        try:
            return send()
        except ContextExhausted:
            self._outputs.keep(mark, Output(tool="", arguments={}, text="the request was too long"))
            return None

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

    def _tokens(self, messages: Iterable[Any]) -> int:
        return int(sum(map(_characters, messages)) * self._rate)

    @property
    def _taken(self) -> int:
        """Tokens of what every request has: the system prompt, the tools and the task."""
        return int(self._fixed * self._rate) + self._tokens([self._task])

    @property
    def _free(self) -> int:
        """Tokens that this leaves for turns."""
        return max(int(LEAST_FREE * self._room), self._room - self._taken)

    def _learn_from(self, response: ModelResponse[Any]) -> None:
        """How many tokens a character has, from the server's own count; and what the results to come may take."""
        said = response.result[0]
        assert isinstance(said, AIMessage)  # noqa: S101 - it is what a chat model gives back
        if said.usage_metadata:
            tokens = said.usage_metadata["input_tokens"]
            self._counted = max(self._counted, 1.1 * tokens / self._characters)
            self._rate = min(1.0, max(FEWEST_PER_CHARACTER, self._counted)) if self._counted else self._rate
        share = min(A_RESULT, RESULTS / max(1, len(said.tool_calls)))
        self._outputs.longest = min(self._longest, max(FEWEST_SHOWN, int(share * self._free / self._rate)))

    def _fit(self, request: ModelRequest[Any]) -> None:
        """Leaves out what the model has seen; the results of its last turn stay, for it has not seen them yet."""
        unseen = sum(1 for _ in takewhile(lambda each: isinstance(each, ToolMessage), reversed(self._shown)))
        self._clear(max(RESULTS_KEPT, unseen))
        if self._size() > self._taken + WORTH_CLEARING * self._free:
            self._sum_up(request, int(TURNS_KEPT * self._free))
        if self._size() > self._taken + self._free:
            self._clear(unseen)

    def _shorten(self, request: ModelRequest[Any]) -> None:
        """For a request that was too long though it seemed to fit: the room is smaller than was thought."""
        self._room = min(self._room, int(0.8 * self._size()))
        self._clear(1)
        self._sum_up(request, int(TURNS_KEPT * self._free / 2))
        if self._size() > self._taken + self._free:
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
            self._chat, trigger=("messages", 1), keep=("tokens", max(1, keep)), token_counter=self._tokens,
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
        calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
        noted = [str(call["args"].get("text", "")) for call in calls if call["name"] == NOTE]
        self._notes += [note for note in noted if 0 < len(note) <= LONGEST_NOTE and note not in self._notes]
        whole = "\n\n".join(filter(None, [self._so_far, *(_written(message) for message in messages)]))
        handle = canonical_digest([self._course.request, whole])[:16]
        notes = "\n".join(f"- {note}" for note in self._notes)
        self._outputs.keep(handle, Output(tool="", arguments={}, text=redact(f"{whole}\n\nNotes:\n{notes}")))
        said = self._said_in_short(messages) or _calls_of(messages)
        most = int(SUMMARY * self._free / self._rate)
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
        system = SystemMessage((PROMPTS / "summary.md").read_text("utf-8").strip())
        said = self._unless_too_long(asked, lambda: self._chat.invoke([system, HumanMessage(asked)]))
        return said.text.strip() if said else ""


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
