"""The events of a run as typed objects: what `stream` yields and `on_event` is given.

They are the lines of a run's events.jsonl (docs/events.md) with the id of the run. A field that a newer version has
added stays on the object; an event of an unknown kind, or one whose fields do not fit, is an OtherEvent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    at: float
    """Seconds since the epoch."""
    run_id: str = ""
    text: str = ""
    """One line for a person; empty where the fields say it all."""


class StatusEvent(_Event):
    """The run starts, waits, parks or ends."""

    kind: Literal["status"] = "status"
    status: str
    """running | waiting | interrupted | succeeded | failed | over_budget | timed_out | cancelled"""
    outcome: str = ""
    """At the end: improved | no_improvement | none."""


class MoveEvent(_Event):
    """The router has chosen what comes next."""

    kind: Literal["move"] = "move"
    move: str
    """baseline, research, data, draft, improve, candidate, deliver, confirm, stop, …"""
    role: str = ""
    """Who carries it out."""
    experiment: str = ""
    by: str = ""
    """Who chose it: `playbook`, a model, or `person`."""
    why: str = ""


class SteerEvent(_Event):
    """Something that a person asked for in a chat was taken up, or cannot be."""

    kind: Literal["steer"] = "steer"
    words: str
    """The person's."""
    followed: bool = False
    """Whether it was done as it says; else `text` says why not."""


class TurnEvent(_Event):
    """A role's language model has said something, or called tools; `text` is what it said."""

    kind: Literal["turn"] = "turn"
    role: str
    model: str
    request: str = ""
    """Digest of the request, the name of its file among the run's answers."""
    tokens: int = 0
    """Of the request and the answer."""
    usd: float | None = None
    """None where the price is unknown."""
    seconds: float = 0.0
    kept: bool = False
    """Whether it was on disk already: no request was sent, and nothing is paid again."""
    calls: tuple[str, ...] = ()
    """Names of the tools that it calls."""


class ToolEvent(_Event):
    """A tool that a role's language model called has come back."""

    kind: Literal["tool"] = "tool"
    role: str
    name: str
    arguments: str = ""
    handle: str = ""
    """Name of the whole output among the run's tool outputs."""
    characters: int = 0
    """Of that output."""
    seconds: float = 0.0
    error: str = ""
    kept: bool = False
    """Whether its output was on disk already."""


class WordsEvent(_Event):
    """What a model is saying: the end of it, as `text`. No trace keeps it; the turn that follows has it all."""

    kind: Literal["words"] = "words"
    role: str
    model: str = ""


class ProposalEvent(_Event):
    """A role has proposed."""

    kind: Literal["proposal"] = "proposal"
    role: str
    by: str
    """The brain: `playbook`, or a model."""


class DecidedJob(BaseModel):
    """One job of a GateEvent."""

    model_config = ConfigDict(frozen=True, extra="allow")

    digest: str
    title: str
    approved: bool


class GateEvent(_Event):
    """Jobs were decided on."""

    kind: Literal["gate"] = "gate"
    by: str
    """`person` or `policy`."""
    requests: tuple[DecidedJob, ...] = ()


class JobEvent(_Event):
    """A job changed its state."""

    kind: Literal["job"] = "job"
    key: str
    """The job's submission key, the name of its folder."""
    experiment: str
    purpose: str
    """generation | training | evaluation | merge"""
    title: str
    state: str
    """queued | running | succeeded | failed | cancelled | unknown"""
    seconds: float = 0.0
    error: str = ""


class ProgressEvent(_Event):
    """A running job printed its progress."""

    kind: Literal["progress"] = "progress"
    key: str
    experiment: str
    purpose: str
    title: str
    step: int | float
    steps: int | float
    """In all."""
    seconds: float | None = None
    """Since the job began its steps."""
    eta_seconds: float | None = None
    loss: float | None = None
    """Of a training job, in nats a token; None where it is not a finite number."""


class VerdictEvent(_Event):
    """An experiment was judged."""

    kind: Literal["verdict"] = "verdict"
    experiment: str
    verdict: str | None = None
    """keep | discard | crash"""


class SpentEvent(_Event):
    """What the run has spent so far."""

    kind: Literal["spent"] = "spent"
    usd: float
    jobs: int
    hours: float
    """Of driving."""
    unpriced: tuple[str, ...] = ()
    """Models without a known price: their dollars are not in `usd`."""


class NoteEvent(_Event):
    """Anything else worth a line."""

    kind: Literal["note"] = "note"


class OtherEvent(_Event):
    """An event that this version does not understand."""

    kind: Literal["other"] = "other"
    fields: dict[str, Any]
    """The event as it stands in events.jsonl, `kind` included."""


Event = (
    StatusEvent
    | MoveEvent
    | SteerEvent
    | TurnEvent
    | ToolEvent
    | WordsEvent
    | ProposalEvent
    | GateEvent
    | JobEvent
    | ProgressEvent
    | VerdictEvent
    | SpentEvent
    | NoteEvent
    | OtherEvent
)
"""`event.kind` tells them apart, as does `isinstance` or `match`."""

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def parse_event(plain: Mapping[str, Any], run_id: str = "") -> Event:
    """An event from plain data, as a line of events.jsonl holds it; never raises for an event that it does not know."""
    known = {"run_id": run_id, **plain}
    try:
        return _ADAPTER.validate_python(known)
    except ValidationError:
        text, at = plain.get("text"), plain.get("at")
        return OtherEvent(
            at=at if isinstance(at, int | float) else 0.0,
            run_id=run_id,
            text=text if isinstance(text, str) else "",
            fields=dict(plain),
        )
