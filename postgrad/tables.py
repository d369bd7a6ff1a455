"""The tables that a command ends with: a run's summary, the runs of a home, and plain facts."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from postgrad.answer import BASELINE, answer, improved
from postgrad.units import NONE, dollars, dollars_known, duration, one_line, plus_minus, signed

PIPE_WIDTH = 200
"""Columns of a table that no terminal shows."""

GOAL_WIDTH, GOAL_WIDTH_MIN = 60, 12
"""Columns that the text of a goal takes at most among the runs; with less room than the second it is left out."""


def show_summary(summary: Mapping[str, Any], terminal: Terminal | None = None) -> None:
    """A run on one screen: the answer, the scores, the experiments, what it cost and where the report is."""
    terminal = terminal or plain_terminal()
    terminal.print()
    terminal.print(
        Text(answer(summary), "bold green" if improved(summary) else "bold"), soft_wrap=not terminal.is_terminal
    )
    if summary["baseline"]:
        terminal.print(_score_table(summary))
    if summary["experiments"]:
        terminal.print()
        terminal.print(_experiment_table(summary["experiments"]))
    if summary["ablations"]:
        terminal.print()
        terminal.print(_effect_table(summary["ablations"]))
    terminal.print()
    spent = summary["spent"]
    facts = [("run", f"{summary['run_id']} · {summary['status'].replace('_', ' ')}")]
    if again := summary.get("reproduction"):
        facts.append(
            ("does again", f"{again['of']} · {again['verdict'] or 'no verdict yet'} {again['reason']}".strip())
        )
    if summary["error"]:
        facts.append(("because", summary["error"]))
    told = summary["error"]
    ends = [(entry["id"], entry.get("error")) for entry in summary["experiments"]]
    facts += [(f"{name} ended", one_line(error)) for name, error in ends if error and error not in told]
    cost, time_taken = dollars_known(spent["usd"], spent["unpriced"]), duration(3600 * spent["hours"])
    facts.append(("spent", f"{cost} · {time_taken} · {spent['llm_tokens']:,} LLM tokens"))
    facts += [("", role_spend(role, share)) for role, share in spent["roles"].items()]
    if verdict := summary["integrity"].get("verdict"):
        facts.append(("certificate", "; ".join([verdict, *summary["integrity"]["reasons"]])))
    if summary["champion"].get("model"):
        facts.append(("model", summary["champion"]["model"]))
    if summary["report"]:
        facts.append(("report", summary["report"]))
    _print_pairs(facts, terminal)


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
            cells += [_score_cell(after), _difference_cell(claim)]
        table.add_row(Text(one_line(name)), *cells)
    return table


def _difference_cell(claim: Mapping[str, Any] | None) -> str:
    if claim is None:
        return NONE
    delta, low, high = (signed(claim[key], claim["unit"]) for key in ("delta", "ci_low", "ci_high"))
    return f"{delta} ({low} to {high}){'' if claim['higher_is_better'] else ', lower is better'}"


def _experiment_table(experiments: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in ("experiment", "change", "verdict"):
        table.add_column(heading)
    table.add_column("selection score", justify="right")
    for entry in experiments:
        table.add_row(
            entry["id"],
            Text(one_line(entry["change"])),
            entry["verdict"] or entry["status"],
            _score_cell(entry["score"]),
        )
    return table


def _effect_table(effects: Sequence[Mapping[str, Any]]) -> Table:
    """What parts of the champion are worth, the largest effect first."""
    from postgrad.report.ablations import HEAD, rows_of
    from shared_memory.ablations import EffectTable

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in HEAD:
        table.add_column(heading)
    for row in rows_of(EffectTable.model_validate({"champion": "", "effects": effects})):
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def role_spend(role: str, share: Mapping[str, Any]) -> str:
    """`trainer: 3 jobs, 7 min 12 s, $0.00`; what a role did not take is left out."""
    jobs, tokens = share["jobs"], share["llm_tokens"]
    words = [f"{jobs} job{'s' if jobs > 1 else ''}, {duration(3600 * share['hours'])}"] if jobs else []
    words += [f"{tokens:,} tokens"] if tokens else []
    return f"{role.replace('_', ' ')}: {', '.join([*words, dollars_known(share['usd'], share['unpriced'])])}"


def _score_cell(score: Mapping[str, Any] | None) -> str:
    return plus_minus(score["score"], score["stderr"], score["unit"]) if score else NONE


def show_runs(runs: Sequence[Mapping[str, Any]], terminal: Terminal | None = None) -> None:
    """The runs of a home, newest first. Where there is little room the goal's text is shortened, or left out."""
    terminal = terminal or plain_terminal()
    if not runs:
        terminal.print("no runs yet; `postgrad run GOAL.toml` starts one")
        return
    rows = [("run", "status", "started", "spent")]
    for run in runs:
        outcome = "" if run["outcome"] == "none" else f": {run['outcome']}"
        status = f"{run['status']}{outcome}".replace("_", " ")
        rows.append((run["run_id"], status, _when(run["started"]), _spent(run["spent"])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = min(terminal.width - sum(widths) - 2 * len(widths), GOAL_WIDTH)
    for row, goal in zip(rows, ["goal", *(one_line(run["text"]) for run in runs)], strict=True):
        line = Text("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
        if room >= GOAL_WIDTH_MIN:
            text = Text(goal)
            text.truncate(room, overflow="ellipsis")
            line.append("  ").append_text(text)
        line.rstrip()
        terminal.print(line, style="dim" if row is rows[0] else "", soft_wrap=True)


def _spent(spent: Mapping[str, Any]) -> str:
    """In a column: `$0.12+?` where a price is unknown."""
    unknown = bool(spent["unpriced"])
    return "?" if unknown and not spent["usd"] else dollars(spent["usd"]) + ("+?" if unknown else "")


def show_facts(facts: Mapping[str, object], terminal: Terminal | None = None) -> None:
    """Names and values, one pair a line."""
    _print_pairs(list(facts.items()), terminal or plain_terminal())


def _print_pairs(pairs: Sequence[tuple[str, object]], terminal: Terminal) -> None:
    """Whole lines, which the terminal wraps: a path that a table folds cannot be copied."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        terminal.print(Text(f"{name:<{width}}  {one_line(value)}"), soft_wrap=True)


def show_rows(headings: Sequence[str], rows: Sequence[Sequence[object]], terminal: Terminal | None = None) -> None:
    """A plain table."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    (terminal or plain_terminal()).print(table)


def plain_terminal() -> Terminal:
    """The terminal of a person, or a pipe, which has room for whole lines."""
    return Terminal(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _when(seconds: float | None) -> str:
    return time.strftime("%m-%d %H:%M", time.localtime(seconds)) if seconds else "–"
