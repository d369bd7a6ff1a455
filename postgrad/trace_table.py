"""The trace of a run as a person reads it: one line an event, and the sums by role."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console as Terminal
from rich.text import Text

from postgrad.console import lines_of
from postgrad.events import Event, OtherEvent, parse_event
from postgrad.tables import plain_terminal, show_rows
from postgrad.trace_words import role_words, tool_words, turn_words
from postgrad.units import dollars_known, duration, one_line

HEAD = ("role", "turns", "from disk", "calls", "tokens", "cost", "time of turns and calls")


def show_trace(trace: Mapping[str, Any], terminal: Terminal | None = None) -> None:
    """Print it."""
    terminal = terminal or plain_terminal()
    for plain in trace["events"]:
        event = parse_event(plain)
        for line in _lines(event):
            terminal.print(Text.assemble((f"{_stamp(event.at)}  ", "dim"), line), soft_wrap=True)
    if not trace["events"]:
        terminal.print(Text("nothing has happened yet", "dim"))
    rows = [_row(role, sums) for role, sums in trace["roles"].items()]
    if rows:
        terminal.print()
        show_rows(HEAD, rows, terminal)


def _stamp(at: float) -> str:
    try:
        return time.strftime("%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):  # no time that this machine knows
        return "–"


def _lines(event: Event) -> list[Text]:
    """An event as the console has it; turns and tools in full, what this version does not understand by its kind."""
    if isinstance(event, OtherEvent):
        return [Text(f"{one_line(event.fields['kind'])} (not understood): {one_line(event.text)}")]
    plain = {"text": event.text, **event.model_dump(exclude_unset=True)}
    kept = "  (from disk)" if plain.get("kept") else ""
    match event.kind:
        case "turn":
            return [Text(turn_words(plain) + kept)]
        case "tool":
            arguments = one_line(plain.get("arguments", ""))
            return [Text(f"  {tool_words(plain)}{kept}"), *([Text(f"    {arguments}", "dim")] if arguments else [])]
        case _:
            return lines_of(plain, every_state=True)


def _row(role: str, sums: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        role_words({"role": role}) or "–",
        str(sums["turns"]),
        str(sums["kept"]),
        str(sums["calls"]),
        f"{sums['tokens']:,}",
        dollars_known(sums["usd"], sums["unpriced"]),
        duration(sums["seconds"]),
    )
