"""postgrad: a team of four agents that post-trains language models, with a human's approval before every job.

>>> import postgrad
>>> summary = postgrad.run("goal.toml", approve="auto")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postgrad.ablation import ablate
    from postgrad.api import resume, run, show, stream
    from postgrad.asynchronous import aresume, arun, astream
    from postgrad.batches import batch
    from postgrad.chatting import chat
    from postgrad.comparison import compare
    from postgrad.crafts import audit, evaluate
    from postgrad.decide import Answer, Decide, Request
    from postgrad.events import (
        Event,
        GateEvent,
        JobEvent,
        MoveEvent,
        NoteEvent,
        OtherEvent,
        ProgressEvent,
        ProposalEvent,
        SpentEvent,
        StatusEvent,
        SteerEvent,
        ToolEvent,
        TurnEvent,
        VerdictEvent,
        WordsEvent,
    )
    from postgrad.planning import plan
    from postgrad.reproduction import reproduce
    from postgrad.researching import research
    from shared_memory.errors import PostgradError
    from shared_memory.goal import Goal

__version__ = "0.6.0"
__all__ = [
    "Answer",
    "Decide",
    "Event",
    "GateEvent",
    "Goal",
    "JobEvent",
    "MoveEvent",
    "NoteEvent",
    "OtherEvent",
    "PostgradError",
    "ProgressEvent",
    "ProposalEvent",
    "Request",
    "SpentEvent",
    "StatusEvent",
    "SteerEvent",
    "ToolEvent",
    "TurnEvent",
    "VerdictEvent",
    "WordsEvent",
    "__version__",
    "ablate",
    "aresume",
    "arun",
    "astream",
    "audit",
    "batch",
    "chat",
    "compare",
    "evaluate",
    "plan",
    "reproduce",
    "research",
    "resume",
    "run",
    "show",
    "stream",
]

_HOMES = {
    "postgrad.ablation": ("ablate",),
    "postgrad.api": ("resume", "run", "show", "stream"),
    "postgrad.asynchronous": ("aresume", "arun", "astream"),
    "postgrad.batches": ("batch",),
    "postgrad.chatting": ("chat",),
    "postgrad.comparison": ("compare",),
    "postgrad.crafts": ("audit", "evaluate"),
    "postgrad.decide": ("Answer", "Decide", "Request"),
    "postgrad.planning": ("plan",),
    "postgrad.reproduction": ("reproduce",),
    "postgrad.researching": ("research",),
    "shared_memory.errors": ("PostgradError",),
    "shared_memory.goal": ("Goal",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: `import postgrad` itself stays quick."""
    home = "postgrad.events" if name.endswith("Event") else _HOME_OF.get(name)
    if home is None or name not in __all__:
        raise AttributeError(f"module 'postgrad' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    """What a console completes, imported or not."""
    return sorted({*globals(), *__all__})
