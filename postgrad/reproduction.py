"""Does a run's champion again from its pinned records, as a run of its own, and says whether it agrees."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from postgrad import api
from postgrad.decide import Decide
from postgrad.events import Event
from shared_memory.database import Database
from shared_memory.journal import Journal
from shared_memory.ledger import Ledger
from shared_memory.redaction import redact_plain
from shared_memory.runs import Runs, RunStatus, new_run_id
from shared_memory.settings import Settings, load_settings


def reproduce(
    run_id: str,
    *,
    approve: Literal["ask", "paid", "auto"] | None = None,
    decide: Decide | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Train, merge and score the champion of a run once more; the JSON of `postgrad reproduce --json`.

    `{run_id, of, verdict (agrees | differs | cannot | waiting | parked), agrees (null until it is known), reason, rule,
    benchmark, original {score, stderr, n, part, unit, higher_is_better}, again {…}, delta, stderr, items_equal (share),
    training_loss {experiment: {original, again}}, packages {name: [then, now]} where they differ, steps [{purpose,
    experiment, attempt, state, seconds, job}]}`; what is not known yet is left out.

    run_id: its id, the beginning of it, or `last`; a run that is itself a reproduction is gone on with. A job that
    failed or was refused is then asked for once more; after one that was edited at the gate, or left no record, it
    stays at `cannot`. approve: who may approve its jobs; None takes the goal's own policy. Raises BadInput where the
    run has no champion of its own, or an input (a record, a script, the data, the model, the benchmark) is not what it
    was, naming it.
    """
    settings = settings or load_settings()
    own = open_reproduction(settings, run_id, approve)
    api.resume(own, decide=decide, on_event=on_event, settings=settings)
    return outcome(settings, own)


def open_reproduction(settings: Settings, run_id: str, approve: str | None = None) -> str:
    """Check what the champion stands on, and register a run that does it again; returns that run's id."""
    from graph.context import Context, Desk
    from graph.pinned import read_original, verify
    from graph.replay import NOTE

    db = Database.open(settings.database)
    desk = Desk(Runs(db).get(run_id).run_id, Context(home=str(settings.home)))
    if desk.journal.notes(NOTE):
        return desk.run_id
    original = read_original(desk)
    verify(original)
    text = f"Reproduce {desk.run_id}: {original.goal.text}"
    goal = api.as_goal(original.goal, text=text, approve=approve)
    own = new_run_id(text)
    with db.transaction():
        Runs(db).create(own, goal, time.time())
        Journal(db, own).note(NOTE, NOTE, {"of": desk.run_id})
    settings.run_paths(own).root.mkdir(parents=True, exist_ok=True)
    return own


def follow(settings: Settings, run_id: str) -> int:
    """Drive a reproduction and show it in this terminal until it ends or waits; returns the run's exit code."""
    from postgrad.attach import can_ask
    from postgrad.attach import follow as attached
    from shared_memory.lease import holder

    db = Database.open(settings.database)
    row = api.ready_to_go_on(settings, run_id)
    if row.status is RunStatus.SUCCEEDED:
        return 0
    if holder(db, run_id) is None and (row.status is not RunStatus.WAITING or row.answer is not None):
        api.start_worker(settings, run_id)
    return attached(settings, run_id, ask=can_ask(), from_start=True)


def outcome(settings: Settings, run_id: str) -> dict[str, Any]:
    """What a reproduction has come to so far; see `reproduce`."""
    from graph.replay import NOTE, RULE

    db = Database.open(settings.database)
    row, journal = Runs(db).get(run_id), Journal(db, run_id)
    stopped = {RunStatus.WAITING: "waiting", RunStatus.RUNNING: "parked", RunStatus.INTERRUPTED: "parked"}
    known = {"verdict": stopped.get(row.status, "cannot"), "reason": row.error, "rule": RULE}
    told = {"run_id": run_id, **known, **journal.notes(NOTE)[NOTE]}
    told["agrees"] = {"agrees": True, "differs": False, "cannot": False}.get(told["verdict"])
    told["steps"] = [
        {
            "purpose": job.purpose.value,
            "experiment": job.experiment,
            "attempt": job.attempt,
            "state": job.state.value,
            "seconds": job.seconds,
            "job": job.key,
        }
        for job in (action.job for action in Ledger(db, run_id).actions())
        if job is not None
    ]
    redacted: dict[str, Any] = redact_plain(told)
    return redacted


def show(told: dict[str, Any]) -> None:
    """The outcome for a person, on stdout."""
    from postgrad.tables import show_facts
    from postgrad.units import plus_minus

    facts = {"run": told["run_id"], "does again": told["of"], "verdict": told["verdict"]}
    facts |= {"because": told["reason"]} if told["reason"] else {}
    for name in ("original", "again"):
        if score := told.get(name):
            facts[name] = f"{plus_minus(score['score'], score['stderr'], score['unit'])} (n = {score['n']})"
    facts["rule"] = told["rule"]
    show_facts(facts)
