"""The error tree. A message is one line: what is wrong, then what to do next.

PostgradError                 exit 1
├── BadInput                  exit 2   a goal, flag, file or model that cannot be used
├── BudgetSpent               exit 4   a cap of the goal would be exceeded
├── TimeOver                  exit 5   the goal's hours or its deadline are used up
├── ContextExhausted          exit 7   a language model cannot read as much as it has to be shown
├── Unavailable               exit 1   something this run stands on is missing (an extra, a model server)
│   └── Uncertain             exit 1   a backend may have taken a job, or may not: its answer got lost
└── Conflict                  exit 1   another process holds what was asked for, or an answer is stale
"""

from __future__ import annotations


class PostgradError(RuntimeError):  # LangGraph's server hides the message of an Exception of one's own from Studio
    """Anything that postgrad raises on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class BadInput(PostgradError):
    """A goal, flag, file or model that cannot be used as it is."""

    exit_code = 2


class BudgetSpent(PostgradError):
    """A cap of the goal (dollars, tokens, jobs, experiments) would be exceeded."""

    exit_code = 4


class TimeOver(PostgradError):
    """The goal's hours or its deadline are used up."""

    exit_code = 5


class ContextExhausted(PostgradError):
    """A language model cannot read as much as it has to be shown."""

    exit_code = 7


class Unavailable(PostgradError):
    """Something this run stands on is missing: an optional extra, a program, a service."""


class Uncertain(Unavailable):
    """A backend may have taken a job, or may not: its answer to the submission got lost."""


class Conflict(PostgradError):
    """Another process holds what was asked for, or an answer belongs to a request that is gone."""
