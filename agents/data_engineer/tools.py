"""What the data engineer's language model can look at: the goal's own rows, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from agents.brain import Brief
from agents.data_engineer.audit import audit_sources
from agents.data_engineer.checks.stream import Stream
from agents.data_engineer.formats.rows import Row
from agents.prompting import compact
from agents.reading.sources import to_train_on

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

MOST_ROWS = 20
"""Shown at once."""


def tools_of(brief: Brief) -> list[BaseTool]:
    """The tools of a brief; none where the goal brings no rows."""
    files = brief.goal.data.train
    if not files:
        return []
    from langchain_core.tools import tool

    @tool
    def read_rows(offset: int = 0, limit: int = 5) -> str:
        """Rows of the goal's training data as JSON lines, without those that are held out to measure on."""
        rows = (row for row in _rows(files) if row.id not in brief.held_out)
        shown = list(islice(rows, max(0, offset), max(0, offset) + min(max(1, limit), MOST_ROWS)))
        return "\n".join(compact(_said(row)) for row in shown) or f"there is no row at {offset}"

    @tool
    def audit_data() -> str:
        """What is wrong with the goal's training data: kinds of findings with counts and advice, and a verdict."""
        report = audit_sources(files)
        found = [{key: each[key] for key in ("kind", "severity", "count", "advice")} for each in report["findings"]]
        return compact({key: report[key] for key in ("rows", "format", "verdict", "reason")} | {"findings": found})

    return [read_rows, audit_data]


def _rows(files: Sequence[str]) -> Iterator[Row]:
    return (row for batch in Stream(to_train_on(files)).batches() for row in batch.rows)


def _said(row: Row) -> dict[str, Any]:
    """What a row says, without what it leaves empty."""
    return {key: value for key, value in asdict(row).items() if value not in ("", (), None)}
