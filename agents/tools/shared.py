"""The tools that every role has, where there is something to find out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.brain import Brief, Move
from agents.workbench import Workbench
from shared_memory.redaction import redact_plain

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

SETTLED = (Move.BASELINE, Move.CANDIDATE, Move.CONFIRM, Move.DELIVER, Move.RETRY)
"""Moves whose answer is in the facts."""


def shared(brief: Brief, bench: Workbench, facts: Mapping[str, Any]) -> list[BaseTool]:
    """For one proposal. facts: what the prompt shows of the brief."""
    if brief.move in SETTLED:
        return []
    from agents import sandbox
    from agents.tools.memory import look_up
    from agents.tools.scratch import run_python

    if sandbox.fault_of_this_machine():
        return [look_up(brief)]
    shown = json.dumps(redact_plain(facts), ensure_ascii=False, indent=1)
    return [look_up(brief), run_python(brief, bench, shown)]
