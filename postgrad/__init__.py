"""postgrad: a team of four agents that post-trains language models, with a human's approval before every job.

>>> import postgrad
>>> summary = postgrad.run("goal.toml", approve="auto")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postgrad.api import resume, run, stream
    from shared_memory.errors import PostgradError
    from shared_memory.goal import Goal

__version__ = "0.1.0"
__all__ = ["Goal", "PostgradError", "__version__", "resume", "run", "stream"]

_HOMES = {
    "run": "postgrad.api",
    "stream": "postgrad.api",
    "resume": "postgrad.api",
    "Goal": "shared_memory.goal",
    "PostgradError": "shared_memory.errors",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: `import postgrad` itself stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'postgrad' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
