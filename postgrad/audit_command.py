"""`postgrad audit`: what is wrong with training data, in a terminal, as JSON or as a page."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postgrad.options import JsonOption, print_json, say

if TYPE_CHECKING:
    from agents.data_engineer.checks.stream import Progress

PROGRESS_SECONDS = 0.2
"""Between two looks at how far it is."""


class Severity(StrEnum):
    """What `audit --fail-on` takes."""

    ERROR = "error"
    WARNING = "warning"


def audit(
    data: Annotated[
        list[str], typer.Argument(metavar="DATA...", help="JSONL, JSON, CSV, Parquet or Arrow files, folders, Hub ids.")
    ],
    model: Annotated[
        str, typer.Option(help="Count this model's tokens and try its chat template (Hub id, folder).")
    ] = "",
    revision: Annotated[str, typer.Option(help="Of the model on the Hub.")] = "",
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of a row: say what would be cut.")] = None,
    method: Annotated[str, typer.Option(help="sft | dpo | grpo | kto | reward: can they train it?")] = "",
    benchmark: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="Look for its items in the rows; may be repeated.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Tokenise all rows, not a sample of the large sets.")] = False,
    split: Annotated[str, typer.Option(help="Look at one split only.")] = "",
    clean: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what is left, mended, as new JSONL.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with histograms.")] = None,
    fail_on: Annotated[Severity | None, typer.Option(help="Exit 1 where a finding is as severe.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What is wrong with training data, before anybody trains on them."""
    from postgrad.crafts import audit as audit_data

    if html is not None:
        from postgrad.audit_page import require_place

        require_place(html, data, clean)
    with _progress() as on_progress:
        found = audit_data(
            data, model=model, revision=revision, max_length=max_length, method=method, benchmark=benchmark or (),
            exact=exact, split=split, clean=clean, on_progress=on_progress,
        )  # fmt: skip
    if html is not None:
        from postgrad.audit_page import write_page

        write_page(found, html)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that has seen enough ends it quietly, as with cat
    if as_json:
        print_json(found)
    else:
        from postgrad.audit_table import show_audit

        show_audit(found)
    for path in filter(None, (html, clean)):
        say(f"written: {path}")
    severities = {finding["severity"] for finding in found["findings"]}
    if (fail_on and "error" in severities) or (fail_on is Severity.WARNING and "warning" in severities):
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None] | None]:
    """On a terminal a bar by bytes, and the rows so far; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(28), TaskProgressColumn(), TextColumn("{task.fields[rows]}"))
    with Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bars:
        shown: dict[str, Any] = {"at": 0.0, "stage": "", "task": bars.add_task("reading", total=None, rows="")}

        def show(progress: Progress) -> None:
            changed = progress.stage != shown["stage"]
            if not changed and time.monotonic() - shown["at"] < PROGRESS_SECONDS:
                return
            rows = f"{progress.rows:,} rows · {progress.bytes / 1e6:,.0f} MB"
            if changed:  # what comes after reading has no known end
                bars.remove_task(shown["task"])
                total = progress.total_bytes if progress.stage == "reading" else None
                shown["task"] = bars.add_task(progress.stage, total=total, rows=rows)
            if progress.stage == "reading":
                bars.update(shown["task"], completed=progress.bytes, rows=rows)
            shown.update(at=time.monotonic(), stage=progress.stage)

        yield show
