"""What a role's language model works with: the model, its tools, and where what they give back is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.llm import LanguageModel

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

Tell = Callable[..., None]
"""`tell(kind, **fields)`: an event for whoever watches the run."""

STEPS = 60
"""Requests for one proposal, where nobody says otherwise."""


def silent(kind: str, **fields: Any) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Workbench:
    """Of one role in one run. The role adds the tools of its craft itself, in its `tools.py`."""

    model: LanguageModel
    outputs: Path
    """Folder for what tools give back: in full, and as it was, for a loop that runs again after a crash."""
    library: Path
    """Folder for what was fetched from outside; all runs of a home share it."""
    tools: tuple[BaseTool, ...] = ()
    """What people have added, and what every role has."""
    steps: int = STEPS
    """Requests for one proposal, at most."""
    sandbox: str = "auto"
    """`auto` or `none`: see agents.sandbox."""
    tell: Tell = silent
