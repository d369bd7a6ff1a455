"""The tables that a command ends with: a run's summary, and the runs of a home."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from postgrad.answer import BASELINE, answer, improved
from postgrad.units import dollars, duration, one_line, percent, signed

PIPE_WIDTH = 200
"""Columns of a table that no terminal shows."""


def show_summary(summary: Mapping[str, Any], terminal: Terminal | None = None) -> None:
    """The end of a run on one screen: the answer, the scores, what it cost and where the report is."""
    terminal = terminal or _stdout()
    terminal.print()
    terminal.print(Text(answer(summary), "bold green" if improved(summary) else "bold"), soft_wrap=True)
    if summary["baseline"]:
        terminal.print(_score_table(summary))
    facts = Table.grid(padding=(0, 2))
    spent = summary["spent"]
    facts.add_row("run", Text(f"{summary['run_id']} · {summary['status'].replace('_', ' ')}"))
    if summary["error"]:
        facts.add_row("because", Text(one_line(summary["error"])))
    facts.add_row(
        "spent", f"{dollars(spent['usd'])} · {duration(3600 * spent['hours'])} · {spent['llm_tokens']:,} LLM tokens"
    )
    if summary["champion"].get("model"):
        facts.add_row("model", Text(one_line(summary["champion"]["model"])))
    if summary["report"]:
        facts.add_row("report", Text(one_line(summary["report"])))
    terminal.print(facts, soft_wrap=True)


def _score_table(summary: Mapping[str, Any]) -> Table:
    champion = summary["champion"]
    rival = champion.get("experiment", BASELINE) != BASELINE
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    headings = [
        "benchmark",
        "items",
        "n",
        BASELINE,
        *([champion["experiment"], "difference, 95 % interval"] if rival else []),
    ]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("benchmark", "items") else "right")
    for name, before in summary["baseline"].items():
        cells = [before["part"], str(before["n"]), _score_cell(before)]
        if rival:
            after, claim = champion["score"].get(name), champion["improvement"].get(name)
            interval = f"{signed(claim['ci_low'])} to {signed(claim['ci_high'])}" if claim else ""
            cells += [_score_cell(after) if after else "–", f"{signed(claim['delta'])} ({interval})" if claim else "–"]
        table.add_row(Text(one_line(name)), *cells)
    return table


def _score_cell(score: Mapping[str, Any]) -> str:
    return f"{percent(score['score'])} ± {100 * score['stderr']:.1f}"


def show_runs(runs: Sequence[Mapping[str, Any]], terminal: Terminal | None = None) -> None:
    """The runs of a home, newest first."""
    terminal = terminal or _stdout()
    if not runs:
        terminal.print("no runs yet; `postgrad run GOAL.toml` starts one")
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in ("run", "status", "started", "spent"):
        table.add_column(heading, no_wrap=True)
    table.add_column("goal", min_width=16, no_wrap=True, overflow="ellipsis")
    for run in runs:
        outcome = "" if run["outcome"] == "none" else f": {run['outcome']}"
        status = f"{run['status']}{outcome}".replace("_", " ")
        started, cost = _when(run["started"]), dollars(run["spent"]["usd"])
        table.add_row(run["run_id"], status, started, cost, Text(one_line(run["text"])))
    terminal.print(table)


def _stdout() -> Terminal:
    """The terminal of a person, or a pipe, which has room for whole lines."""
    return Terminal(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _when(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "–"
