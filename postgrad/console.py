"""What a person sees of a run in a terminal: the live view, the approval prompt, and the closing tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from postgrad.approval import ApprovalPrompt
from postgrad.decide import Answer
from postgrad.tables import show_runs, show_summary
from postgrad.trace_words import end_of, role_words, tool_words, turn_words
from postgrad.typing_in import edit_text, read_line
from postgrad.units import dollars_known, duration, one_line

__all__ = ["Console", "show_runs", "show_summary"]

LINE_SECONDS = 10.0
"""Without a terminal, a job's progress is written at most this often …"""

LINE_SHARE = 0.1
"""… or when this share of its steps has gone by since the last line."""

_GLYPHS = {"succeeded": ("✓", "green"), "failed": ("✗", "red"), "cancelled": ("■", "yellow")}
_VERDICTS = {"keep": "green", "discard": "yellow", "crash": "red"}


class Console:
    """Renders a run's events to stderr, and asks for approval there.

    On a terminal: a live area (what is going on, a bar for each running job, spend and time) below the finished lines.
    Elsewhere: one plain line an event, progress throttled. Use it as a context manager around the events.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        answers: TextIO | None = None,
        live: bool | None = None,
        edit: Callable[[str, str], str | None] = edit_text,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`answers` is where a person types (stdin), `live` forces or forbids the live area, `clock` tells the time."""
        self._terminal = Terminal(file=stream or sys.stderr, highlight=False, markup=False, emoji=False)
        self._answers = answers
        self._edit = edit
        self._clock = clock
        self._view = _View(clock)
        wanted = self._terminal.is_terminal if live is None else live
        self._live = self._make_live() if wanted else None
        self._written: dict[str, tuple[float, float]] = {}

    def _make_live(self) -> Live:
        # stdout stays untouched: with --json it carries the one document that a script reads.
        return Live(
            console=self._terminal,
            get_renderable=self._view.area,
            transient=True,
            refresh_per_second=8,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def render(self, event: Mapping[str, Any]) -> None:
        """Show one event of a run."""
        self._view.take(event)
        if event["kind"] == "words":
            return  # the live area alone has them
        if event["kind"] == "progress":
            if self._live is None and self._due(event):
                self._print(event, Text(f"{_job_name(event)}: {progress_words(event)}"))
            return
        for line in lines_of(event, every_state=self._live is None):
            self._print(event, line)

    def ask(self, requests: Sequence[Mapping[str, Any]]) -> dict[str, Answer] | None:
        """Ask a person about jobs; digest → answer, or None where they parked the run (see ApprovalPrompt)."""
        with self._without_live():
            return ApprovalPrompt(self._terminal, lambda: read_line(self._answers), self._edit).ask(requests)

    def show_summary(self, summary: Mapping[str, Any]) -> None:
        """A compact table of the run's end on this console."""
        show_summary(summary, self._terminal)

    def _print(self, event: Mapping[str, Any], line: Text) -> None:
        stamp = time.strftime("%H:%M:%S", time.localtime(event.get("at", self._clock())))
        self._terminal.print(Text.assemble((f"{stamp}  ", "dim"), line), soft_wrap=self._live is None)

    def _due(self, event: Mapping[str, Any]) -> bool:
        """Whether a job's progress is worth a line: its first, its last, and as LINE_SECONDS and LINE_SHARE say."""
        at, share = float(event.get("at", self._clock())), _share(event)
        last = self._written.get(event["key"])
        due = last is None or at - last[0] >= LINE_SECONDS or share - last[1] >= LINE_SHARE or share >= 1 > last[1]
        if due:
            self._written[event["key"]] = (at, share)
        return due

    @contextmanager
    def _without_live(self) -> Iterator[None]:
        running = self._live is not None and self._live.is_started
        if self._live is not None and running:
            self._live.stop()
        try:
            yield
        finally:
            if self._live is not None and running:
                self._live = self._make_live()
                self._live.start()


class _View:
    """What the live area shows, put together from the events so far."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._phase = Spinner("dots", text="")
        self._jobs: dict[str, dict[str, Any]] = {}
        self._spent: Mapping[str, Any] = {"usd": 0.0, "jobs": 0, "hours": 0.0}
        self._counted_at: float | None = None
        self._words, self._said_at = "", 0.0

    def take(self, event: Mapping[str, Any]) -> None:
        kind, at = event["kind"], float(event.get("at", self._clock()))
        if kind == "words":
            self._words = f"{role_words(event)}: {one_line(event['text'])}" if at > self._said_at else self._words
        elif kind in ("turn", "proposal", "move", "status"):  # it has been said, or nobody says any more
            self._words, self._said_at = "", at
        if kind == "spent":
            self._spent, self._counted_at = event, at
        elif kind == "status":
            self._counted_at = at if event.get("status") == "running" else None
            self._phase.update(text=Text(one_line(event.get("text") or event.get("status", ""))))
        elif kind == "move":
            self._phase.update(text=Text(_move_words(event)))
        elif kind == "job" and event["state"] not in ("queued", "running"):
            self._jobs.pop(event["key"], None)
        elif kind in ("job", "progress"):
            self._jobs.setdefault(event["key"], {}).update(event)

    def area(self) -> RenderableType:
        shown: list[RenderableType] = [self._phase]
        bars = Table.grid(padding=(0, 1))
        for job in self._jobs.values():
            started = "step" in job
            bar = ProgressBar(total=100, completed=100 * _share(job), width=28, pulse=not started)
            bars.add_row(
                "  ", Text(_job_name(job)), bar, Text(progress_words(job) if started else job.get("state", ""))
            )
        if self._jobs:
            shown.append(bars)
        if self._words:
            shown.append(Text(f"   {end_of(self._words)}", "dim italic"))
        return Group(*shown, Text(f"   {self._spent_words()}", "dim"))

    def _spent_words(self) -> str:
        since = 0.0 if self._counted_at is None else max(0.0, self._clock() - self._counted_at)
        jobs = self._spent["jobs"]
        seconds = 3600 * float(self._spent["hours"]) + since
        spent = dollars_known(self._spent["usd"], self._spent.get("unpriced", ()))
        return f"{spent} spent · {jobs} job{'' if jobs == 1 else 's'} · {duration(seconds)}"


def progress_words(event: Mapping[str, Any]) -> str:
    """`12/50 · loss 1.234 · 1 min 02 s left`, with what the event has."""
    words = [f"{event['step']}/{event['steps']}"]
    if event.get("loss") is not None:
        words.append(f"loss {event['loss']:.3f}")
    if event.get("eta_seconds") is not None and _share(event) < 1:
        words.append(f"{duration(event['eta_seconds'])} left")
    return " · ".join(words)


def lines_of(event: Mapping[str, Any], every_state: bool) -> list[Text]:
    """An event as finished lines; a job that has only begun is one where `every_state`, else it is in the live area."""
    match event["kind"]:
        case "status":
            outcome = f" ({event['outcome'].replace('_', ' ')})" if event.get("outcome", "none") != "none" else ""
            why = _tail(event) if event.get("text") != event["status"] else ""
            return [Text(f"{event['status'].replace('_', ' ')}{outcome}{why}", "bold")]
        case "move":
            return [Text.assemble((f"▸ {_move_words(event)}", "bold cyan"), (_who_chose(event), "dim"))]
        case "proposal":
            return [Text(f"{role_words(event)} proposes: {one_line(event['text'])}")]
        case "turn":
            return [] if event.get("kept") else [Text(turn_words(event), "dim")]
        case "tool":
            return [Text(tool_words(event), "yellow")] if event.get("error") else []
        case "steer":
            return [Text(f"“{one_line(event['words'])}”: {one_line(event['text'])}", "cyan")]
        case "gate":
            return _gate_lines(event)
        case "job":
            return _job_lines(event, every_state)
        case "verdict":
            verdict = (event["verdict"], _VERDICTS.get(event["verdict"], ""))
            return [Text.assemble(f"{event['experiment']}: ", verdict, _tail(event, " · "))]
        case "note":
            return [Text(one_line(event["text"]), "dim")]
        case _:
            return []


def _gate_lines(event: Mapping[str, Any]) -> list[Text]:
    who = "approved by policy" if event["by"] == "policy" else "approved by a person"
    refused = who.replace("approved", "rejected")
    return [
        Text(
            f"{who if request['approved'] else refused}: {one_line(request['title'])}",
            "" if request["approved"] else "yellow",
        )
        for request in event["requests"]
    ]


def _job_lines(event: Mapping[str, Any], every_state: bool) -> list[Text]:
    state = event["state"]
    if state not in _GLYPHS:
        return [Text(f"{_job_name(event)}: {state}")] if every_state else []
    glyph, style = _GLYPHS[state]
    took = f" · {duration(event['seconds'])}" if event.get("seconds") else ""
    why = f": {one_line(event['error'])}" if event.get("error") else ""
    return [
        Text.assemble(
            (f"{glyph} ", style),
            f"{_job_name(event)}{took}",
            (f" · {state}{why}" if state != "succeeded" else "", style),
        )
    ]


def _job_name(event: Mapping[str, Any]) -> str:
    return one_line(event.get("title") or f"{event.get('purpose', 'job')} {event.get('experiment', '')}")


def _who_chose(event: Mapping[str, Any]) -> str:
    """Who chose a move and why, where that was not the playbook."""
    by = one_line(event.get("by", ""))
    if not by or by == "playbook":
        return ""
    who = "as you asked" if by == "person" else f"chosen by {by}"
    return f"  ({who}: {one_line(event['why'])})" if event.get("why") else f"  ({who})"


def _move_words(event: Mapping[str, Any]) -> str:
    what = one_line(event.get("text") or event["move"])
    return f"{role_words(event)}: {what}" if event.get("role") else what


def _tail(event: Mapping[str, Any], before: str = ": ") -> str:
    return f"{before}{one_line(event['text'])}" if event.get("text") else ""


def _share(event: Mapping[str, Any]) -> float:
    """Share of a job's steps that are done, between 0 and 1."""
    return min(1.0, event.get("step", 0) / event["steps"]) if event.get("steps") else 0.0
