"""What the tests of the loop stand on: a workbench over a scripted server, a record to hand in, a first message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool

from agents.llm import LanguageModel, Tally
from agents.loop import work
from agents.provider import Message
from agents.workbench import Workbench
from shared_memory.records import Record
from tests.servers.openai_chat import Request, Says

TASK = "Which stone is it?"


class Choice(Record):
    number: int
    why: str = ""


def conversation(*, call: str = "", task: str = TASK) -> list[Message]:
    return [{"role": "system", "content": "You choose."}, {"role": "user", "content": task}]


def calls(*named: tuple[str, dict[str, Any] | str], **more: Any) -> Says:
    return Says("", calls=named, **more)


def hands_in(number: int) -> Says:
    return calls(("hand_in", {"number": number, "why": "it is round"}))


def turns_of(request: Request) -> int:
    """Turns of the model that a request has in it."""
    return sum(message["role"] == "assistant" for message in request.messages)


def results_of(request: Request) -> list[str]:
    """What tools gave back, as the model is shown it."""
    return [message["content"] for message in request.messages if message["role"] == "tool"]


def tools_of(request: Request) -> list[str]:
    return [tool["function"]["name"] for tool in request.body.get("tools", [])]


@dataclass
class Loop:
    """A role's loop in a folder: run again, it finds what is on disk."""

    folder: Path
    tools: Sequence[BaseTool]
    task: str = TASK
    events: list[dict[str, Any]] = field(default_factory=list)

    def run(self, base_url: str, fault: Callable[[Choice], str] = lambda choice: "", **changes: Any) -> Choice:
        model = {name: changes.pop(name) for name in ("window", "meter", "heed") if name in changes}
        bench = Workbench(
            LanguageModel(
                "openai/a-model", api_base=base_url, cache=self.folder / "answers", **{"meter": Tally(), **model}
            ),
            outputs=self.folder / "tools", library=self.folder / "library",
            tell=lambda kind, **fields: self.events.append({"kind": kind, **fields}), **changes,
        )  # fmt: skip
        return work(bench, "trainer", Choice, partial(conversation, task=self.task), self.tools, fault)

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]
