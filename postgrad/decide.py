"""What a gate asks, and how a program answers it: the types of `decide` callables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypedDict


class RequestEstimate(TypedDict):
    """What a job is expected to take, and the worst it may cost."""

    hours: float
    usd_micro: int
    """Micro-dollars: the price of the whole time-out."""
    memory_gib: float
    basis: str
    """Where the numbers come from."""


class RequestEnvelope(TypedDict):
    """How far a yes reaches without asking again: all tries of this work together."""

    scope: str
    """sha256 of what every try has in common: all but memory, hardware and time."""
    max_usd_micro: int
    max_hours: float
    attempts: int


class Request(TypedDict):
    """One job that waits for approval: all that it is, as plain data."""

    digest: str
    """sha256 of the job; the answer is bound to it."""
    title: str
    purpose: str
    """generation | training | evaluation | merge | publication | action"""
    experiment: str
    """`e1`, `e2`, …; `baseline` and `data` for the jobs before the first one."""
    benchmark: str
    """Of an evaluation."""
    script: str
    """Name of the script among `files`."""
    script_text: str
    files: dict[str, str]
    """Name in the job folder → sha256."""
    config: dict[str, Any]
    runner: str
    flavor: str
    timeout_seconds: int
    estimate: RequestEstimate
    envelope: RequestEnvelope
    secrets: list[str]
    """Names of the environment variables that the job may read."""
    devices: int
    nodes: int
    image: str
    namespace: str
    custom: bool
    """Whether the script is not one of postgrad's: no earlier yes covers it."""
    modules: dict[str, str]
    """Other Python files of the job → their text."""
    preflight: dict[str, Any] | None
    """Of a training: `checks` (each with name, status, message and fix), `smoke`, `not_exercised` and `seconds`."""
    sandbox: str
    """auto | none, for a script that is not postgrad's own: isolated, or not; empty for those that are."""


class Edit(TypedDict, total=False):
    """A changed job: it comes back at the next gate, under its new digest."""

    config: dict[str, Any]
    """The whole new config."""
    files: dict[str, str]
    """Name → new text."""


class Answer(TypedDict, total=False):
    """What is said to one request: approved or not with a reason, or an edit."""

    approved: bool
    reason: str
    edit: Edit


Reply = Mapping[str, Answer | bool] | Answer | bool | None
"""True approves all that is asked and False rejects all, as does one Answer; a mapping answers digest by digest, and
rejects what is missing in it; None leaves the run waiting."""

Decide = Callable[[list[Request]], Reply]
AsyncDecide = Callable[[list[Request]], Awaitable[Reply] | Reply]


def approve_all(requests: Sequence[Request]) -> dict[str, Answer]:
    """A `decide` that says yes to everything that is asked."""
    return {request["digest"]: {"approved": True} for request in requests}


def answers(reply: Reply, requests: Sequence[Request]) -> dict[str, Any] | None:
    """A reply as the gate takes it: digest → answer, or None.

    Raises TypeError for anything that is no Reply, and ValueError for an answer to something that is not asked: a slip
    of the program must not count as a rejection.
    """
    if reply is None:
        return None
    asked = [request["digest"] for request in requests]
    by_digest: Any = reply
    if isinstance(reply, bool) or (isinstance(reply, Mapping) and "approved" in reply):
        by_digest = dict.fromkeys(asked, reply)
    if not isinstance(by_digest, Mapping) or not all(isinstance(said, Mapping | bool) for said in by_digest.values()):
        raise TypeError(f"`decide` returned {reply!r}; return True, False, None, or {{digest: answer}}")
    if foreign := by_digest.keys() - set(asked):
        raise ValueError(f"`decide` answered {sorted(foreign)[0]!r}, which is not asked; use the requests' digests")
    return {digest: {"approved": said} if isinstance(said, bool) else dict(said) for digest, said in by_digest.items()}
