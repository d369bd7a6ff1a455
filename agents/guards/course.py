"""Where a role's loop stands: what its middleware share, and nothing that a run has to keep."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.guards.repetition import Repetition
from agents.tool_outputs import handle_of
from agents.workbench import LONGEST_TOLD, Tell
from shared_memory.records import canonical_digest

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

HAND_IN = "hand_in"
"""The tool by which a record is handed in."""
MOST_CALLS = "not carried out: `{name}` may be called {most} times for one proposal; go on with what you have"


class Course:
    """The course of one loop.

    What is decided from it depends on what was said and on what tools gave back, never on which of two tools that run
    side by side ended first: a loop that runs again after a crash decides the same.
    """

    def __init__(self, role: str, steps: int, tell: Tell, limits: Mapping[str, int]) -> None:
        """steps: requests, at most. limits: calls, at most, by the name of a tool."""
        self.steps = steps
        self.asked = 0
        """Requests so far."""
        self.request = ""
        """Digest of the last one."""
        self.refused: dict[str, str] = {}
        """Why calls of the last turn are not carried out, by handle."""
        self.lines: list[str] = []
        """What the next request says behind its last message."""
        self.results: dict[str, str] = {}
        """Digests of what calls of the last turn gave back, by handle."""
        self._role, self._tell, self._limits = role, tell, limits
        self._asked: list[tuple[str, str]] = []
        """Calls of the last turn in their order: digest, which is the same for the same call, and handle."""
        self._counted: Counter[str] = Counter()
        self._repetition = Repetition()

    def judge(self, said: AIMessage) -> None:
        """Take in what the model calls for, and decide what of it is not carried out; what is malformed never is."""
        request = said.response_metadata["request"]
        self.request, self._asked, self.refused, self.results = request, [], {}, {}
        ahead = self._repetition.copy()
        for call in said.tool_calls:
            handle, name = handle_of(request, call), call["name"]
            if name == HAND_IN:
                continue
            asked = canonical_digest([name, call["args"]])
            again = ahead.refusal(asked)
            if again:
                self.refused[handle], self.results[handle] = again
            elif self._counted[name] >= self._limits.get(name, self._counted[name] + 1):
                self.refused[handle] = MOST_CALLS.format(name=name, most=self._limits[name])
            else:
                self._counted[name] += 1
            ahead.add(asked, self.results.get(handle, handle))
            self._asked.append((asked, handle))
        for broken in said.invalid_tool_calls:
            asked = canonical_digest([broken["name"], broken["args"]])
            self.results[asked] = "malformed"
            self._asked.append((asked, asked))

    def came_back(self, handle: str, text: str) -> None:
        """Note what a call gave back; one that was refused keeps what it would have given."""
        self.results.setdefault(handle, hashlib.sha256(text.encode(errors="replace")).hexdigest())

    def warning(self) -> str:
        """What to tell the model of its last calls, once all have come back; empty where they lead on."""
        for asked, handle in self._asked:
            if handle in self.results:
                self._repetition.add(asked, self.results[handle])
        self._asked = []
        return self._repetition.warning()

    def tell_call(self, name: str, arguments: Any, handle: str = "", characters: int = 0, **more: Any) -> None:
        """Tell whoever watches of a call that has come back, without secrets; `more`: `seconds`, `error`, `kept`."""
        fields = {"seconds": 0.0, "error": "", "kept": False, **more}
        shown = str(arguments)[:LONGEST_TOLD]
        self._tell("tool", role=self._role, name=name, arguments=shown, handle=handle, characters=characters, **fields)
