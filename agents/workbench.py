"""What a role's language model works with: the model, its tools, and where what they give back is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.llm import LanguageModel

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

Tell = Callable[..., None]
"""`tell(kind, **fields)`: an event for whoever watches the run."""

STEPS = 60
"""Requests for one proposal, where nobody says otherwise."""
WINDOW = 32_768
"""Tokens that a model can read, where nobody knows."""
LONGEST_OUTPUT = 6_000
"""Bytes of one result of a tool that a model is shown at once, where nobody says otherwise."""
LONGEST_TOLD = 500
"""Characters of what was said or asked that are told of an event."""


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
    allowed_hosts: tuple[str, ...] = ()
    """Hosts that may be read beside the researcher's own services."""
    tools: tuple[BaseTool, ...] = ()
    """What people have added, and what every role has."""
    steps: int = STEPS
    """Requests for one proposal, at most."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Calls of a tool for one proposal, at most, by its name; a tool that is not named has no limit of its own."""
    longest_output: int = LONGEST_OUTPUT
    """Bytes of one result of a tool that the model is shown at once, fewer where its window is small; the rest is on
    disk, and can be read on."""
    jobs: Path | None = None
    """Folder of the run's job folders; None outside a run."""
    tell: Tell = silent
