"""The trace of a run as a person reads it: one line an event, and the sums by role."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console as Terminal
from rich.text import Text

from postgrad.console import lines_of
from postgrad.tables import plain_terminal, show_rows
from postgrad.trace_words import role_words, tool_words, turn_words
from postgrad.units import dollars_known, duration, one_line

HEAD = ("role", "turns", "from disk", "calls", "tokens", "cost", "time of turns and calls")


def show_trace(trace: Mapping[str, Any], terminal: Terminal | None = None) -> None:
    """Print it."""
    terminal = terminal or plain_terminal()
    for event in trace["events"]:
        stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(event.get("at", 0.0)))
        for line in _lines(event):
            terminal.print(Text.assemble((f"{stamp}  ", "dim"), line), soft_wrap=True)
    rows = [_row(role, sums) for role, sums in trace["roles"].items()]
    if rows:
        terminal.print()
        show_rows(HEAD, rows, terminal)


def _lines(event: Mapping[str, Any]) -> list[Text]:
    """An event as the console has it; turns and tools in full."""
    kept = "  (from disk)" if event.get("kept") else ""
    match event["kind"]:
        case "turn":
            return [Text(turn_words(event) + kept)]
        case "tool":
            arguments = one_line(event.get("arguments", ""))
            return [Text(f"  {tool_words(event)}{kept}"), *([Text(f"    {arguments}", "dim")] if arguments else [])]
        case _:
            return lines_of(event, every_state=True)


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
