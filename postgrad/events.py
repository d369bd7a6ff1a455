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
