"""Jobs of this process that ask a language model: what both the teacher and an evaluation of a served model do."""

from __future__ import annotations

import time
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from agents.hosting import HOSTED
from agents.jobs.in_process import CANCEL, InProcessRunner, KeptStatus
from shared_memory.errors import PostgradError
from shared_memory.records import JobSpec, JobState


class Asking(Protocol):
    """Questions on their way to a model."""

    @property
    def done(self) -> int:
        """How much of `total` there is by now."""

    @property
    def total(self) -> int:
        """How much there is to be."""

    def go_on(self) -> bool:
        """Ask for a while; whether there is more to ask. Raises what keeps it from being answered."""


A = TypeVar("A", bound=Asking)


class AskingStatus(KeptStatus):
    """What is kept of a job beside its answers; its seconds are those of asking."""

    flavor: str = HOSTED
    """As it was approved."""
    step: int = 0
    """What the log tells of: what is gone through again after a crash is not told again."""


class AskingRunner(InProcessRunner[AskingStatus], Generic[A]):
    """The part of a JobRunner that needs no knowledge of what is asked.

    Each look sends the next few requests, so that a run that is parked, cancelled or out of time is heard between
    them. A new process goes through the answers on disk and then on.
    """

    kept = AskingStatus
    _at_work: ClassVar[dict[Path, Any]] = {}
    """Job folder → what this process has of it in hand."""

    @abstractmethod
    def begun(self, folder: Path, flavor: str) -> A:
        """A job from its first request, in the words that were approved.

        Raises BadInput where the model is not where it was when it was asked about: the environment may have changed.
        """

    @abstractmethod
    def ended(self, folder: Path, status: AskingStatus, asking: A, more: bool) -> AskingStatus:
        """How a job ended in which nothing is left to ask, or where there is `more` and its time is over."""

    def first_status(self, spec: JobSpec) -> AskingStatus:
        return AskingStatus(state=JobState.RUNNING, timeout=spec.timeout_seconds, flavor=spec.flavor)

    def put_down(self, folder: Path) -> None:
        self._at_work.pop(folder, None)

    def go_on(self, folder: Path, status: AskingStatus) -> AskingStatus:
        if (folder / CANCEL).exists():
            return status.model_copy(update={"state": JobState.CANCELLED, "error": "it was cancelled"})
        began = time.monotonic()
        asking: A = self._at_work.get(folder) or self.begun(folder, status.flavor)
        self._at_work[folder] = asking
        try:
            more = asking.go_on()
        except PostgradError:
            self.put_down(folder)  # what was in flight is asked again, or found on disk, when it is resumed
            raise
        seconds = status.seconds + time.monotonic() - began
        if asking.done > status.step:
            self.tell(folder, {"step": asking.done, "steps": asking.total, "seconds": round(seconds, 3)})
        now = status.model_copy(update={"seconds": seconds, "step": max(asking.done, status.step)})
        return now if more and seconds < status.timeout else self.ended(folder, now, asking, more)
