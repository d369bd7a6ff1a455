"""Waiting for jobs: poll them, pass their progress on, book their end, and stop them when the run's means are gone."""

from __future__ import annotations

import time

from langgraph.runtime import Runtime

from agents.trainer.monitor import Stop
from graph import routing
from graph.context import Context, Desk
from graph.lookout import lookout_of
from graph.settle import STOPPED, as_booked, end_doubles, looked_at, settle
from graph.state import JobsState, Plain, RunState, jobs_update
from shared_memory.goal import Goal
from shared_memory.records import Job, JobSpec

WATCH_SECONDS = 60.0
"""A watch slice ends after so long even when nothing changed, so that its progress is checkpointed."""
POLL_SECONDS = 0.5
FIRST_POLL_SECONDS = 0.03
"""Between the first looks; they grow apart up to POLL_SECONDS, so that a short job is not waited for."""


def watch(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Poll all jobs; return at the first change of a job, when the run is parked, or after WATCH_SECONDS."""
    desk = Desk.of(runtime)
    goal = Goal.model_validate(state["goal"])
    tracked = {key: as_booked(Job.model_validate(plain), desk, goal) for key, plain in state["tracked"].items()}
    offsets = dict(state.get("offsets", {}))
    specs = {spec.digest: spec for spec in map(JobSpec.model_validate, state["pending"])}
    halted = {"halt": state.get("halt", ""), "error": state.get("error", "")}
    told_to_end: set[str] = set()
    began = time.monotonic()
    changed = [job.state for job in tracked.values()] != [job["state"] for job in state["tracked"].values()]
    pause = FIRST_POLL_SECONDS
    while not changed and time.monotonic() - began < WATCH_SECONDS and not desk.draining:
        means = means_are_gone(desk, goal, state)
        if means["halt"] and means["halt"] != halted["halt"]:
            halted = means
            desk.emit("note", text=f"stopping the running jobs: {means['error']}")
        for key, job in tracked.items():
            if job.state.terminal:
                continue
            spec, runner = specs[job.spec_digest], desk.runner(job.runner)
            lookout, left = lookout_of(key, spec.model_dump_json()), desk.seconds_left(goal)
            offsets[key], stop = lookout.look(desk, runner, job, spec, offsets.get(key, 0), left)
            if stop is not None:
                _note_stop(desk, job, stop)
            if (stop is not None or means["halt"]) and key not in told_to_end:
                runner.cancel(job.backend_id)
                told_to_end.add(key)  # in this slice; the next one asks again
            tracked[key] = looked_at(runner, job, spec, desk, halting=bool(means["halt"]))
            if tracked[key].state is not job.state:
                changed = True
                if tracked[key].state.terminal:
                    settle(desk, goal, tracked[key])
                tell(desk, tracked[key], spec)
        if not changed:
            time.sleep(pause)
            pause = min(POLL_SECONDS, 1.2 * pause)
    desk.count_time(time.monotonic() - began)
    end_doubles(desk, goal)
    return jobs_update(tracked=tracked, offsets=offsets, **halted)


def _note_stop(desk: Desk, job: Job, stop: Stop) -> None:
    """Write down why a job is ended that cannot end well, before it is: a crash in between must not lose it."""
    if job.key not in desk.journal.notes(STOPPED):
        desk.journal.note(STOPPED, job.key, stop.plain())
        desk.emit("note", text=f"stopping {job.experiment}: {stop.why}; {stop.advice}")


def means_are_gone(desk: Desk, goal: Goal, state: JobsState | RunState) -> dict[str, str]:
    """Why the run has to end now, as its halt: cancelled by a person, or out of time; empty while it may go on.

    The search may use what is not kept back for the end; saving and measuring the champion may use that, too.
    """
    if desk.runs.get(desk.run_id).cancel_requested:
        return {"halt": "cancelled", "error": "a person cancelled the run"}
    of_the_end = state.get("move") in routing.OF_THE_END
    if desk.seconds_left(goal) > (0 if of_the_end else state["stock"]["seconds_kept"]):
        return {"halt": "", "error": ""}
    kept = "" if of_the_end else ", but for what saving and measuring the best model takes"
    return {"halt": "timed_out", "error": f"the goal's {goal.limits.hours:g} h, or its deadline, are used up{kept}"}


class Interrupted(Exception):
    """What asks a language model many things is to be left; `means` is the run's halt, empty where it is parked."""

    def __init__(self, means: dict[str, str]) -> None:
        super().__init__(means["error"])
        self.means = means


def heed(desk: Desk, goal: Goal, state: JobsState | RunState) -> None:
    """Raise Interrupted where the run has to end now, or is parked; for between two requests."""
    means = means_are_gone(desk, goal, state)
    if means["halt"] or desk.draining:
        raise Interrupted(means)


def tell(desk: Desk, job: Job, spec: JobSpec) -> None:
    shown = job.model_dump(mode="json", include={"key", "experiment", "purpose", "state", "seconds", "error"})
    desk.emit("job", title=spec.title, **shown)
