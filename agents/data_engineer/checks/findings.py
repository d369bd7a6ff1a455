"""What an audit says: kinds of faults, how bad they are, and where they are."""

from __future__ import annotations

from typing import Literal

from agents.reading.files import short_place
from shared_memory.records import Record

Kind = Literal[
    # reading
    "unreadable", "truncated", "malformed", "not_json", "not_an_object", "not_utf8", "not_finite", "line_too_long",
    "unknown_role", "no_reply", "not_text", "bad_message", "prompt_mismatch", "no_ranking", "choices",
    "answer_not_among_choices", "other_columns",
    "mixed_types",
    # rows
    "nulls", "empty", "whitespace", "too_few", "exact_duplicates", "near_duplicates", "across_splits", "contamination",
    # lengths and chat
    "cut", "answer_cut", "not_alternating", "empty_turn", "system_position", "tool_calls", "template_fails",
    "template_leaves_out",
    # methods
    "cannot_train", "identical_pairs", "length_bias", "ambiguous", "contradictions", "letters", "label_imbalance",
    # text
    "languages", "mojibake", "lost_characters", "control_characters", "refusals", "boilerplate", "echoes",
    "placeholders", "urls", "emails", "secrets",
    # terms
    "licence", "gated",
]  # fmt: skip
Severity = Literal["error", "warning", "info"]
"""error: training on it fails, or what comes out misleads · warning: it costs quality · info: worth knowing."""
Verdict = Literal["fit", "fixable", "unfit"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""The worst first."""
EXAMPLES = 3
"""Rows that a finding shows."""


class Example(Record):
    """One row that has a fault."""

    source: str
    """The file."""
    row: int
    """As `files.Batch` numbers rows: lines of JSONL, from 1; 0 for what is about the whole file."""
    text: str = ""
    """The beginning of what it says, without secrets and addresses."""

    def __str__(self) -> str:
        return short_place(self.source, self.row)


class AuditFinding(Record):
    """One kind of fault."""

    kind: Kind
    severity: Severity
    count: int
    """Rows that have it; 0 where it is about the data as a whole."""
    share: float = 0.0
    """Of all rows."""
    examples: tuple[Example, ...] = ()
    advice: str
    """What it means, and what to do about it."""
    fix: str = ""
    """What the cleaned copy does about it (see `mending`); empty where a person has to."""

    @property
    def line(self) -> str:
        return f"{self.severity}: {self.kind.replace('_', ' ')}, {self.count} rows; {self.advice}"
