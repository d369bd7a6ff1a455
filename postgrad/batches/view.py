"""`postgrad batch`: a line for every goal that starts or ends, a progress bar on a terminal, and a table at the end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from postgrad.batches.goals import Entry
from postgrad.batches.work import Batch, Result
from postgrad.tables import PIPE_WIDTH
from postgrad.units import dollars, duration, one_line, scored
from shared_memory.runs import Outcome, RunStatus

EXIT_CODES = {
    RunStatus.WAITING: 3,
    RunStatus.FAILED: 1,
    RunStatus.RUNNING: 1,
    RunStatus.INTERRUPTED: 1,
    RunStatus.OVER_BUDGET: 4,
    RunStatus.TIMED_OUT: 5,
    RunStatus.CANCELLED: 6,
}
"""In the order in which they count. A goal is `running` in the end where another process drives it."""
PARKING = b"parking: each run ends the step that it is in; please wait\n"
GLYPHS = {RunStatus.SUCCEEDED: ("✓", "green"), RunStatus.FAILED: ("✗", "red"), RunStatus.WAITING: ("?", "cyan")}


def work_in_terminal(work: Batch, as_json: bool) -> int:
    """Work on a batch and show it; returns the exit code.

    as_json: each result is a line on stdout as it comes, and all else is on stderr. SIGINT and SIGTERM park the batch,
    however often they come.
    """
    terminal = _terminal(sys.stderr)
    bar = Progress(
        TextColumn("goals"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=terminal, transient=True, redirect_stdout=False, disable=not terminal.is_terminal,
    )  # fmt: skip
    task = bar.add_task("", total=len(work.entries))
    out = sys.stdout

    def started(entry: Entry, run_id: str) -> None:
        text = one_line(entry.goal.text) if entry.goal else ""
        _say(terminal, Text(f"▸ {entry.name}: {text} (run {run_id})", "bold cyan"))

    def ended(result: Result) -> None:
        if as_json:
            print(json.dumps(result.plain()), file=out, flush=True)
        _say(terminal, _line(result))
        bar.advance(task)

    # A tool of a person's own may print whatever it likes.
    with _parked_by_signals(work), bar, redirect_stdout(sys.stderr if as_json else out):
        results = work.run(on_result=ended, on_start=started)
    _show(work, results, terminal if as_json else _terminal(sys.stdout))
    return exit_code(work, results)


def exit_code(work: Batch, results: Sequence[Result]) -> int:
    """What the command line ends with: the first of these that is so for any goal."""
    if work.parked:
        return 130
    if all(entry.goal is None for entry in work.entries):
        return 2
    found = {result.status for result in results}
    return next((code for status, code in EXIT_CODES.items() if status in found), 0)


@contextmanager
def _parked_by_signals(work: Batch) -> Iterator[None]:
    def park(signum: int, frame: FrameType | None) -> None:
        work.park()
        os.write(2, PARKING)  # a signal must not wait for the lock of a stream

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, park)
    try:
        yield
    finally:
        for each, handler in before.items():  # a parked batch is on its way out: no more signals until it is
            signal.signal(each, signal.SIG_IGN if work.parked else handler)


def _say(terminal: Console, line: Text) -> None:
    stamp = time.strftime("%H:%M:%S")
    terminal.print(Text.assemble((f"{stamp}  ", "dim"), line), soft_wrap=not terminal.is_terminal)


def _line(result: Result) -> Text:
    glyph, style = GLYPHS.get(result.status, ("■", "yellow"))
    parts = [_standing(result), *_scores(result), *_cost(result), *([one_line(result.error)] if result.error else [])]
    return Text.assemble((f"{glyph} ", style), f"{result.goal}: {' · '.join(parts)}")


def _standing(result: Result) -> str:
    outcome = "" if result.outcome is Outcome.NONE else f" ({result.outcome})"
    return f"{result.status}{outcome}".replace("_", " ")


def _scores(result: Result) -> list[str]:
    scores: dict[str, Any] = result.champion.get("score", {})
    return [f"{one_line(name)} {scored(score['score'], score['unit'])}" for name, score in scores.items()]


def _cost(result: Result) -> list[str]:
    return [dollars(result.spent["usd"]), duration(3600 * result.spent["hours"])] if result.spent else []


def _show(work: Batch, results: Sequence[Result], terminal: Console) -> None:
    """The closing table, what went wrong, and how to go on."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in ("goal", "status", "score", "spent", "run"):
        table.add_column(heading, overflow="fold")
    for result in results:
        cells = (result.goal, _standing(result), ", ".join(_scores(result)), " · ".join(_cost(result)), result.run_id)
        table.add_row(*map(Text, cells))
    terminal.print(table)
    for result in results:
        if result.error:
            terminal.print(f"{result.goal}: {one_line(result.error)}", soft_wrap=True)
        if result.status is RunStatus.WAITING:
            terminal.print(f"{result.goal} waits for your approval: postgrad approve {result.run_id}", soft_wrap=True)
    if work.parked:
        ahead = len(work.entries) - len(results)
        terminal.print(f"parked; not begun: {ahead}; the same command goes on", soft_wrap=True)


def _terminal(stream: TextIO) -> Console:
    """The terminal of a person, or a pipe, which has room for whole lines."""
    return Console(
        file=stream, highlight=False, markup=False, emoji=False, width=None if stream.isatty() else PIPE_WIDTH
    )
