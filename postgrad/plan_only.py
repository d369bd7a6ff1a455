"""Shows the plan of a goal with its worst cost, for `postgrad run --plan-only`; nothing is spent or registered."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from postgrad.tables import PIPE_WIDTH
from postgrad.units import dollars, duration, one_line
from shared_memory.goal import Goal

if TYPE_CHECKING:
    from graph.forecast import Forecast


def show_plan(goal: Goal, as_json: bool) -> None:
    """Print the plan on stdout, as a table or as one JSON document.

    Raises BadInput for a goal that cannot be worked on.
    """
    from graph.forecast import forecast

    print_plan(forecast(goal), goal.run.approve, as_json)


def print_plan(plan: Forecast, approve: str, as_json: bool, **facts: Any) -> None:
    """The same of a plan that is made; `facts` go into the JSON beside it."""
    if as_json:
        print(json.dumps({**facts, **plan.plain()}, ensure_ascii=False, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in ("move", "what", "jobs", "about", "at worst", "cost at worst"):
        table.add_column(heading, justify="left" if heading in ("move", "what") else "right")
    for step in plan.steps:
        table.add_row(
            step.move.replace("_", " "),
            Text(one_line(step.what)),
            str(step.jobs or ""),
            duration(3600 * step.hours) if step.jobs else "",
            duration(3600 * step.worst_hours) if step.jobs else "",
            dollars(step.worst_usd) if step.jobs else "",
        )
    table.add_section()
    worst = (duration(3600 * plan.worst_hours), dollars(plan.worst_usd))
    table.add_row("in all", "", str(plan.jobs), duration(3600 * plan.hours), *worst)
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    terminal = Terminal(highlight=False, markup=False, emoji=False, width=width)
    terminal.print(table)
    for note in plan.notes:
        terminal.print(f"· {note}", style="dim")
    terminal.print(f"· nothing was started; approve = {approve}", style="dim")
