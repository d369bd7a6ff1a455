"""What a person sees of jobs that wait for approval."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console as Terminal

from postgrad.approval import ApprovalPrompt


def shown_at_the_gate(requests: Sequence[Any]) -> str:
    stream = io.StringIO()
    ApprovalPrompt(Terminal(file=stream, width=160), lambda: "q", lambda text, suffix: None).ask(requests)
    return stream.getvalue()
