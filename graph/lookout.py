"""One running job as this process sees it: its progress is passed on, and its monitor kept up to date."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import lru_cache

from agents.jobs.base import JobRunner, pieces, read_events
from agents.trainer.monitor import Monitor, Stop
from graph.context import Desk
from graph.state import Plain
from shared_memory.errors import PostgradError
from shared_memory.records import Job, JobSpec, JobState, Purpose

METRICS_SECONDS = 60.0
"""Running time between two looks at what a job uses."""


class Lookout:
    """Kept from look to look; another process builds it again from the job's log."""

    def __init__(self, spec: JobSpec) -> None:
        self._monitor = Monitor(spec) if spec.purpose is Purpose.TRAINING else None
        self._read = 0
        """Bytes of the log that the monitor has seen."""
        self._told = 0
        """Warnings that were passed on."""
        self._use_percent: float | None = None
        self._measured = -math.inf

    def look(
        self, desk: Desk, runner: JobRunner, job: Job, spec: JobSpec, offset: int, seconds_left: float
    ) -> tuple[int, Stop | None]:
        """Pass on what the job printed since `offset`; the offset to go on from, and why the job has to stop."""
        stop = self._catch_up(runner, job, offset)
        text, following = runner.logs(job.backend_id, offset)
        events = read_events(text)[0]
        if events:
            _tell_progress(desk, job, spec, events[-1])
        stop = self._see(events, following) or stop
        if self._monitor is not None and job.state is JobState.RUNNING:
            stop = stop or self._monitor.look(
                running=job.seconds, seconds_left=seconds_left, use_percent=self._use(runner, job)
            )
            for advice in self._monitor.advice[self._told :]:
                desk.emit("note", text=f"{spec.experiment}: {advice}")
            self._told = len(self._monitor.advice)
        return following, stop

    def _catch_up(self, runner: JobRunner, job: Job, offset: int) -> Stop | None:
        """Show the monitor what an earlier process has passed on."""
        if self._monitor is None or self._read >= offset:
            return None
        stop = None
        for text, following in pieces(runner, job.backend_id, self._read):
            stop = self._see(read_events(text)[0], following) or stop
            if following >= offset:
                break
        return stop

    def _see(self, events: list[Plain], following: int) -> Stop | None:
        self._read = max(self._read, following)
        stops = [self._monitor.see(event) for event in events] if self._monitor else []
        return next(filter(None, stops), None)

    def _use(self, runner: JobRunner, job: Job) -> float | None:
        """How busy its GPUs are, or its processor where it has none; asked for now and then."""
        if job.seconds - self._measured >= METRICS_SECONDS:
            self._measured = job.seconds
            with suppress(PostgradError):  # it will be asked again
                used = runner.metrics(job.backend_id)
                self._use_percent = used.get("gpu_percent", used.get("cpu_percent"))
        return self._use_percent


@lru_cache(maxsize=256)
def lookout_of(key: str, spec: str) -> Lookout:
    """The lookout of a submission; `spec` is its JobSpec as JSON."""
    return Lookout(JobSpec.model_validate_json(spec))


def _tell_progress(desk: Desk, job: Job, spec: JobSpec, event: Plain) -> None:
    measured = _measures(event)
    step, steps = measured.get("step") or 0, measured.get("steps") or 0
    eta = (measured.get("seconds") or 0) * (steps - step) / step if step > 0 else None
    shown = {"key": job.key, "experiment": job.experiment, "purpose": job.purpose.value, "title": spec.title}
    desk.emit("progress", **{**measured, **shown, "step": step, "steps": steps, "eta_seconds": eta})


def _measures(event: Plain) -> dict[str, float | None]:
    """The known numbers of a progress event, for a script may print anything; NaN and infinity become None."""
    measures: dict[str, float | None] = {}
    for key in ("step", "steps", "loss", "seconds"):
        value = event.get(key)
        if isinstance(value, int | float):
            with suppress(OverflowError):
                measures[key] = value if math.isfinite(value) else None
    return measures
