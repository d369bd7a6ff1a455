"""Conversations: whose turn it is, turns that say nothing, where the system speaks, and tools that answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from agents.data_engineer.checks.check import AuditBatch, Check, Tally, Whole, shown
from agents.data_engineer.checks.findings import AuditFinding, Kind
from agents.data_engineer.formats.rows import Row

_ADVICE: dict[Kind, str] = {
    "not_alternating": "user and assistant do not take turns, and many chat templates refuse that; join the messages",
    "empty_turn": "a message in the middle says nothing; fill it, or cut the conversation before it",
    "system_position": "the system speaks after the beginning, where chat templates ignore or refuse it; move it there",
    "tool_calls": "tool calls and tool results do not match, or the tool is not among `tools`; add what is missing",
}
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_RESPONSE = "<tool_response>"
"""How Hermes and models like it write calls and results into the text of a message."""
MOST_ROLES = 8
"""Roles that an example shows."""
MANY = 100_000
"""Distinct orders of roles that are remembered."""


class Chat(Check):
    """The order of roles is judged once for all rows that share it; what the messages say, for each."""

    def __init__(self) -> None:
        self._tallies: dict[Kind, Tally] = {kind: Tally() for kind in _ADVICE}
        self._known: dict[tuple[str, ...], tuple[Kind, ...]] = {}
        self.turns: Counter[int] = Counter()
        """Turns of the user and the assistant → rows."""

    def see(self, batch: AuditBatch) -> None:
        found: dict[Kind, list[int]] = {kind: [] for kind in _ADVICE}
        blank = set(batch.blank)
        for place, row in enumerate(batch.rows):
            if place in blank or not row.prompt:
                continue
            messages = row.prompt + row.completion
            roles = tuple([message.role for message in messages])
            faults = self._known.get(roles)
            if faults is None:
                faults = self._judge(roles)
            self.turns[len(roles) - roles.count("system") - roles.count("tool")] += 1
            for kind in faults:
                found[kind].append(place)
            if not all(message.content.strip() or message.tool_calls for message in messages):
                found["empty_turn"].append(place)
            if ("tool" in roles or any(message.tool_calls for message in messages)) and not tools_answer(row):
                found["tool_calls"].append(place)
        for kind, places in found.items():
            self._tallies[kind].add(batch, places, lambda row: _turns(batch.rows[row]))

    def _judge(self, roles: tuple[str, ...]) -> tuple[Kind, ...]:
        if len(self._known) >= MANY:
            self._known.clear()
        faults: list[Kind] = []
        if "system" in roles[1:]:
            faults.append("system_position")
        turns = [role for role in roles if role != "system"]
        if turns[0] == "assistant" or any(a == b != "tool" for a, b in pairwise(turns)):
            faults.append("not_alternating")
        self._known[roles] = tuple(faults)
        return self._known[roles]

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        for kind, tally in self._tallies.items():
            yield from tally.finding(kind, "warning", whole.rows, _ADVICE[kind])


def tools_answer(row: Row) -> bool:
    """Whether each tool call is of a tool that the row offers, and is answered before anybody else speaks.

    A call that ends the row is its answer to come.
    """
    offered = _names(row.tools)
    waiting = 0
    for message in row.prompt + row.completion:
        if message.role == "tool":
            waiting -= max(1, message.content.count(_RESPONSE))
            if waiting < 0:
                return False
        elif waiting:
            return False
        elif message.role == "assistant":
            called = _names(message.tool_calls) or _written_calls(message.content)
            waiting = len(called)
            if offered and not set(offered).issuperset(filter(None, called)):
                return False
    return True


def _written_calls(text: str) -> list[str]:
    """The names of the tools that are called within a text; empty for a call that is no JSON."""
    found = []
    for call in _CALL.findall(text):
        try:
            value = json.loads(call)
        except (ValueError, RecursionError):
            value = None
        name = value.get("name") if isinstance(value, dict) else None
        found.append(name if isinstance(name, str) else "")
    return found


def _turns(row: Row) -> str:
    """`user, user, assistant: What is …`."""
    roles = [message.role for message in row.prompt + row.completion]
    return f"{', '.join(roles[:MOST_ROLES])}{', …' if len(roles) > MOST_ROLES else ''}: {shown(row.text)}"


def _names(entries: str) -> list[str]:
    """Of tools or of calls, as JSON; `{"function": {"name": …}}`, or the inner part alone."""
    found = []
    for entry in json.loads(entries) if entries else ():
        inner = entry.get("function", entry)
        found.append(str(inner.get("name", "")) if isinstance(inner, dict) else str(inner))
    return found
